"""Counts on raw label maps how many tokens of a crop hold foreground, before anything is preprocessed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, prod
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from batchgeneratorsv2.transforms.utils.seg_to_regions import ConvertSegmentationToRegionsTransform
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from threadpoolctl import threadpool_limits

from scd_plugin.nnunet.token_targets import target_token_labels
from scd_plugin.ops.grid import token_grid

__all__ = ["LabelMap", "View", "count_shares", "crop_labels", "foreground_share", "read_label_maps", "some_of"]

CROPS = 400
"""Crops counted of a data set: four lie above the 99th percentile."""
MAX_CASES, MIN_CASES, MAX_VOXELS = 200, 10, 1_000_000_000
"""Cases read, and about the voxels of them all, so that counting takes about a minute."""
# nnU-Net's smallest batch, and the share of it that its trainer forces to hold foreground: every other crop
BATCH_SIZE, OVERSAMPLED = 2, 0.33


class View(NamedTuple):
    """How a configuration sees an image, in the plans' order of axes, two in 2-D: voxels, voxels, millimetres."""

    crop: tuple[int, ...]
    token: tuple[int, ...]
    spacing: tuple[float, ...]

    @classmethod
    def of(cls, configuration: Mapping[str, Any]) -> View:
        """That of a configuration whose plans name a network of SCD."""
        token = configuration["architecture"]["arch_kwargs"]["patch_size"]
        crop, spacing = configuration["patch_size"], configuration["spacing"]
        return cls(tuple(map(int, crop)), tuple(map(int, token)), tuple(map(float, spacing)))

    @property
    def num_tokens(self) -> int:
        """Tokens of a crop."""
        return prod(token_grid(self.crop, self.token))


class LabelMap(NamedTuple):
    """A label map with all that crops are placed and cut by."""

    label: np.ndarray
    """(*size), axes in the plans' order, in small integers"""
    spacing: list[float]
    """millimetres, of the same axes"""
    locations: dict[Any, Any]
    """voxels of foreground (number, 3), as nnU-Net's preprocessing samples them"""


def some_of(files: Sequence[str], voxels: float) -> list[str]:
    """Label maps to read, evenly spaced in their order; `voxels` is the mean number in one."""
    count = min(len(files), MAX_CASES, max(MIN_CASES, int(MAX_VOXELS / voxels)))
    return [files[number] for number in np.linspace(0, len(files) - 1, count).round().astype(int)]


def read_label_maps(
    files: Sequence[str], plans_manager: PlansManager, dataset_json: Mapping[str, Any]
) -> list[LabelMap]:
    """Read label maps, once for all views of them.

    Raises:
        ValueError: if one cannot be read.
    """
    reader, labels = plans_manager.image_reader_writer_class(), plans_manager.get_label_manager(dataset_json)
    kinds = labels.foreground_regions if labels.has_regions else labels.foreground_labels
    # with an ignore label nnU-Net places crops where something is annotated
    kinds += [[-1, *labels.all_labels]] if labels.has_ignore_label else []
    maps = []
    for file in files:
        label, spacing = _read(file, reader, plans_manager.transpose_forward)
        found = DefaultPreprocessor._sample_foreground_locations(label[None], kinds)  # noqa: SLF001
        # nnU-Net's rows are channel and voxel, in 8 bytes a number
        locations = {kind: rows[:, 1:].astype(np.uint16) if len(rows) else [] for kind, rows in found.items()}
        maps.append(LabelMap(label, spacing, locations))
    return maps


def count_shares(maps: Sequence[LabelMap], view: View, label_manager: Any) -> np.ndarray:
    """Share of the tokens that hold foreground, (cases, crops): `CROPS` or a few more in all.

    Crops are placed as nnU-Net's trainers place them, without augmentation; the same ones every time. nnU-Net cuts off
    borders of zeros first: crops at random then meet a little less background, but those that are forced to hold
    foreground, which rule the 99th percentile, hardly change.
    """
    shares = []
    # nnU-Net draws from NumPy's global state
    state = np.random.get_state()  # noqa: NPY002
    try:
        with threadpool_limits(limits=1):
            for case, one in enumerate(maps):
                np.random.seed(case)  # noqa: NPY002
                shares.append(_case_shares(one, view, label_manager, ceil(CROPS / len(maps))))
    finally:
        np.random.set_state(state)  # noqa: NPY002
    return np.array(shares)


def _case_shares(one: LabelMap, view: View, manager: Any, crops: int) -> list[float]:
    label, spacing, locations = one
    depth = 3 - len(view.crop)
    # slices of a 2-D configuration keep their distance
    shape = compute_new_shape(label.shape, spacing, [*spacing[:depth], *view.spacing])
    factor = np.divide(shape, label.shape)
    moved = {
        kind: np.insert(((rows + 0.5) * factor).astype(int), 0, 0, axis=1) if len(rows) else rows
        for kind, rows in locations.items()
    }
    no_data = SimpleNamespace(identifiers=[])
    loader = nnUNetDataLoader(no_data, BATCH_SIZE, view.crop, view.crop, manager, OVERSAMPLED)
    shares = []
    # an odd number is one more: half of them are forced
    for number in range(ceil(crops / BATCH_SIZE) * BATCH_SIZE):
        lower, _ = loader.get_bbox(shape, loader.get_do_oversample(number % BATCH_SIZE), moved)
        crop = crop_labels(label, lower, loader.patch_size, shape)
        shares.append(foreground_share(crop[0] if depth else crop, view.token, manager))
    return shares


def crop_labels(label: np.ndarray, lower: Sequence[int], size: Sequence[int], shape: Sequence[int]) -> np.ndarray:
    """Cut a crop out of a label map as if it had been resampled: the nearest voxel, axis by axis, and 0 outside.

    `lower`, the crop's first voxel in the resampled map, may be negative; `shape` is that of the resampled map.
    """
    places = [np.arange(first, first + length) for first, length in zip(lower, size)]
    inside = [(place >= 0) & (place < extent) for place, extent in zip(places, shape)]
    nearest = [
        ((place[within] + 0.5) * old / extent).astype(int)
        for place, within, old, extent in zip(places, inside, label.shape, shape)
    ]
    # whatever follows may look for negative numbers
    crop = np.zeros(size, dtype=np.int32)
    crop[np.ix_(*inside)] = label[np.ix_(*nearest)]
    return crop


def foreground_share(crop: np.ndarray, token: Sequence[int], label_manager: Any) -> float:
    """Share of a crop's tokens that hold foreground: those that labels teach to keep by default."""
    target = torch.from_numpy(crop)[None]
    if label_manager.has_regions:
        ignored = [label_manager.ignore_label] if label_manager.has_ignore_label else []
        convert = ConvertSegmentationToRegionsTransform([*label_manager.foreground_regions, *ignored])
        target = convert(segmentation=target)["segmentation"]
    labels = target_token_labels(target[None], token_grid(crop.shape, token), label_manager)
    return float(labels.foreground.double().mean())


def _read(file: str, reader: Any, transpose: Sequence[int]) -> tuple[np.ndarray, list[float]]:
    try:
        label, properties = reader.read_seg(file)
        # numbers as small as they may be: all maps are held
        kind = np.promote_types(*(np.min_scalar_type(int(extreme)) for extreme in (label.min(), label.max())))
        label = label[0].astype(kind).transpose(transpose)
    except Exception as error:  # noqa: BLE001  (readers raise what their libraries do)
        msg = (
            f"label map {file} could not be read to count its tokens ({' '.join(str(error).split())}); replace the "
            "file, or take the case out of the data set"
        )
        raise ValueError(msg) from None
    return label, [properties["spacing"][axis] for axis in transpose]
