"""What a network must know about a data set: channels, classes, spacing, window, intensities.

The outcome is plain JSON; after a training it stands in the bundle's configs, so that nothing needs the data set again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from scd_plugin.monai.dataset.checks import num_channels, read_channels, read_header, read_voxels
from scd_plugin.monai.dataset.labelled_folders import Case, DatasetFolder
from scd_plugin.monai.dataset.window import window_and_patch

__all__ = ["describe_cases", "intensity_config", "label_values", "named_labels"]

# as many cases as give stable medians and percentiles
MAX_CASES = 50
VOXELS_PER_CASE = 10_000
# air is -1000 HU; no other common image has such values
CT_BELOW = -500
PERCENTILES = (0.5, 99.5)

_LOGGER = logging.getLogger(__name__)


def named_labels(dataset: DatasetFolder) -> dict[str, tuple[int, ...]]:
    """Return the data set's labels; where it does not name them, all values found in its label files."""
    if dataset.labels:
        return dataset.labels
    values = set().union(*map(_values, dataset.cases))
    labels: dict[str, tuple[int, ...]] = {f"label_{value}": (value,) for value in sorted(values - {0})}
    if not labels:
        msg = f"the labels of {dataset.root} hold nothing but 0, so there is nothing to learn"
        raise ValueError(msg)
    return labels


def _values(case: Case) -> set[int]:
    """Whole numbers from 0 in the label file; what else it holds, or that it can't be read, is reported later."""
    try:
        values = np.unique(read_voxels(case.label))
    except ValueError:
        return set()
    return {int(value) for value in values if np.isfinite(value) and value >= 0}


def label_values(labels: Mapping[str, Sequence[int]]) -> list[int]:
    """List the values that label files may hold, background first."""
    return sorted({0, *(value for values in labels.values() for value in values)})


def describe_cases(
    dataset: DatasetFolder, labels: Mapping[str, Sequence[int]], cases: Sequence[Case]
) -> dict[str, Any]:
    """Describe a data set by its undamaged cases.

    Args:
        dataset: the folder.
        labels: its labels or regions, see `named_labels`.
        cases: those to look at; at most 50 are opened.

    Returns:
        A JSON object: `channel_names`, `labels` (name -> values), `regions_order` (empty for plain labels),
        `label_values` (for plain labels: value of each class in the files), `in_channels`, `out_channels`, `spacing`
        (mm, axes of RAS orientation), `img_size`, `patch_size` (voxels), `ct_windows` (see `intensity_config`).
    """
    sample = list(cases[:: max(1, len(cases) // MAX_CASES)][:MAX_CASES])
    names = dataset.channel_names
    if not names:
        count = num_channels(sample[0])
        kind = "CT" if _looks_like_ct(sample) else "MR or other"
        names = (kind,) * count
        _LOGGER.info("%s does not name its channels: %d, taken for %s by its values", dataset.root, count, kind)
    spacings, extents = zip(*(_in_ras(case) for case in sample))
    spacing = np.median(spacings, axis=0)
    shape = np.median(extents, axis=0) / spacing
    img_size, patch_size = window_and_patch(shape.tolist(), spacing.tolist())
    regions = bool(dataset.regions_order)
    return {
        "channel_names": list(names),
        "labels": {name: list(values) for name, values in labels.items()},
        "regions_order": list(dataset.regions_order),
        "label_values": [] if regions else label_values(labels),
        "in_channels": len(names),
        "out_channels": len(labels) if regions else len(labels) + 1,
        "spacing": [float(f"{step:.6g}") for step in spacing],
        "img_size": img_size,
        "patch_size": patch_size,
        "ct_windows": [
            _ct_window(sample, channel) if name.strip().lower() == "ct" else None for channel, name in enumerate(names)
        ],
    }


def intensity_config(ct_windows: Sequence[Sequence[float] | None]) -> dict[str, Any]:
    """Write the config of the transform that normalises images, all channels alike or each in its own way.

    Args:
        ct_windows: for each channel the HU window that is mapped to -1..1, cut off outside; None for a z-score.
    """
    if not any(ct_windows):
        return _one_kind("image", None)
    if len(ct_windows) == 1:
        return _one_kind("image", ct_windows[0])
    parts = [f"image_{channel}" for channel in range(len(ct_windows))]
    return {
        "_target_": "Compose",
        "transforms": [
            {
                "_target_": "SplitDimd",
                "keys": "image",
                "output_postfixes": [str(channel) for channel in range(len(ct_windows))],
            },
            *(_one_kind(part, window) for part, window in zip(parts, ct_windows)),
            {"_target_": "ConcatItemsd", "keys": parts, "name": "image"},
            {"_target_": "DeleteItemsd", "keys": parts},
        ],
    }


def _one_kind(key: str, window: Sequence[float] | None) -> dict[str, Any]:
    if window is None:
        return {"_target_": "NormalizeIntensityd", "keys": key, "channel_wise": True}
    return {
        "_target_": "ScaleIntensityRanged",
        "keys": key,
        "a_min": window[0],
        "a_max": window[1],
        "b_min": -1.0,
        "b_max": 1.0,
        "clip": True,
    }


def _ct_window(cases: Sequence[Case], channel: int) -> list[float]:
    """Find the range of HU inside labels, but for the outermost half per cent on each side, as in nnU-Net."""
    rng = np.random.default_rng(0)
    drawn = []
    for case in cases:
        foreground = read_channels(case.label)[0] > 0
        values = _channel(case, channel)[foreground]
        drawn.append(rng.choice(values, min(len(values), VOXELS_PER_CASE), replace=False))
    if not sum(map(len, drawn)):
        msg = (
            f"the labels of {len(cases)} cases, of which {cases[0].label} is the first, hold nothing but 0, so that "
            "there is nothing to learn, and no HU window to be found"
        )
        raise ValueError(msg)
    low, high = np.percentile(np.concatenate(drawn), PERCENTILES)
    return [round(float(low), 1), round(float(max(high, low + 1)), 1)]


def _channel(case: Case, channel: int) -> np.ndarray:
    if len(case.images) > 1:
        return read_channels(case.images[channel])[0]
    return read_channels(case.images[0])[channel]


def _looks_like_ct(cases: Sequence[Case]) -> bool:
    return float(np.median([_channel(case, 0).min() for case in cases[:5]])) < CT_BELOW


def _in_ras(case: Case) -> tuple[list[float], list[float]]:
    """Spacing and extent in mm along the patient's axes, whatever order the file has them in."""
    header = read_header(case.images[0])
    direction = np.abs(np.asarray(header.direction).reshape(len(header.size), -1))
    order = [int(axis) for axis in direction.argmax(axis=1)]
    if sorted(order) != list(range(len(order))):
        order = list(range(len(order)))
    return [header.spacing[a] for a in order], [header.spacing[a] * header.size[a] for a in order]
