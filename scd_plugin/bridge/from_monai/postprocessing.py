"""What nnU-Net's prediction does like a bundle's window and postprocessing. Plain values only.

Regions may overlap: nnU-Net paints them in the order of its channels, MONAI's bundles in any order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NoReturn

from scd_plugin.bridge.bundle_files import label_channels
from scd_plugin.bridge.from_monai.preprocessing import Component

__all__ = ["Painting", "in_painting_order", "region_painting", "window_notes"]

_HARMLESS = ("Invertd", "SaveImaged", "EnsureTyped", "DeleteItemsd", "SelectItemsd", "Identityd", "ToTensord")
_THRESHOLD = 0.5


@dataclass(frozen=True)
class Painting:
    """How a bundle makes a label map of regions that overlap."""

    values: tuple[int, ...] | None = None
    """Value that each channel is painted with; None where the bundle leaves the regions apart."""
    order: tuple[int, ...] = ()
    """Channels, later ones cover earlier ones."""


def region_painting(postprocessing: Sequence[Component]) -> Painting | None:
    """Read how regions, channels with a threshold each, are painted; None for classes of which the largest wins.

    Raises:
        ValueError: naming the first transform that nnU-Net's prediction has nothing like.
    """
    painting = None
    for transform in postprocessing:
        arguments = transform.arguments
        if transform.name in _HARMLESS:
            continue
        if transform.name == "Activationsd":
            regions = bool(arguments.get("sigmoid"))
        elif transform.name == "AsDiscreted":
            threshold = arguments.get("threshold")
            if threshold not in (None, False, _THRESHOLD):
                _refuse(transform, f"nnU-Net's threshold is 0.5; got {threshold}")
            regions = threshold == _THRESHOLD
        elif transform.name == "RegionsToLabelsd":
            painting = _painting(transform)
            continue
        elif transform.name == "MapLabelValued":
            _check_mapping(transform)
            continue
        else:
            _refuse(transform, "nnU-Net's prediction ends with the largest of the classes, or with regions above 0.5")
        painting = painting or (Painting() if regions else None)
    return painting


def _painting(transform: Component) -> Painting:
    values = tuple(transform.arguments["values"])
    order = transform.arguments.get("painting")
    order = tuple(range(len(values))) if order is None else tuple(order)
    if len(set(values)) < len(values) or sorted(order) != list(range(len(values))):
        _refuse(
            transform,
            f"it must paint each region once, with a value of its own; got values {list(values)}, painting "
            f"{list(order)}",
        )
    return Painting(values, order)


def _check_mapping(transform: Component) -> None:
    before, after = (list(transform.arguments[name]) for name in ("orig_labels", "target_labels"))
    if before != after:
        _refuse(
            transform,
            f"labels of nnU-Net are the numbers of its channels, 0, 1, 2, ... without a gap, and the bundle writes "
            f"{after} for {before}. Take it out, and map the labels after nnU-Net's prediction",
        )


def _refuse(transform: Component, why: str) -> NoReturn:
    msg = f"postprocessing transform {transform.name} can't be moved: {why}"
    raise ValueError(msg)


def window_notes(roi_size: Sequence[int], overlap: float, mode: str, img_size: Sequence[int]) -> list[str]:
    """What nnU-Net's sliding window does in another way than MONAI's, one sentence each.

    The windows of MONAI overlap by a share of themselves, and weigh voxels by a mode, `"gaussian"` or `"constant"`.

    Raises:
        ValueError: if the window, `roi_size`, is not the network's crop.
    """
    if list(roi_size) != list(img_size):
        msg = f"the inferer's roi_size must be the network's img_size {tuple(img_size)}; got {tuple(roi_size)}"
        raise ValueError(msg)
    notes = ["nnU-Net spreads the windows evenly over an image, where MONAI pushes the last one back from the edge"]
    if overlap != 0.5:
        notes.append(f"the windows overlap by {overlap}: predict with -step_size {round(1 - overlap, 4)}")
    if mode != "gaussian":
        notes.append(f"nnU-Net weighs the voxels of a window by a Gaussian, and not as mode={mode!r} does")
    return notes


def in_painting_order(
    dataset: Mapping[str, Any], names: Sequence[str], painting: Painting
) -> tuple[dict[str, Any], list[int]]:
    """Match a bundle's channels to the regions of a dataset.json, in the order in which they are painted.

    Where the painting says so, regions are matched by the value that they are painted with, else by the names of the
    bundle's channels.

    Returns:
        The dataset.json with its regions in the order in which the bundle paints them, and the channel for each.

    Raises:
        ValueError: if regions can't be matched, or one would be painted over altogether.
    """
    labels, values = dataset["labels"], list(dataset["regions_class_order"])
    regions = list(label_channels(labels).values())
    if painting.values is None:
        if sorted(regions) != sorted(names):
            msg = (
                f"the regions of dataset.json must have the names of the bundle's channels, {', '.join(names)}, since "
                f"it has no RegionsToLabelsd by which to tell them apart; got {', '.join(regions)}"
            )
            raise ValueError(msg)
        channels = [list(names).index(region) for region in regions]
    else:
        channels = list(painting.order)
        painted = [painting.values[channel] for channel in channels]
        if sorted(painted) != sorted(values):
            msg = f"regions_class_order of dataset.json must hold what the bundle paints, {painted}; got {values}"
            raise ValueError(msg)
        regions = [regions[values.index(value)] for value in painted]
        values = painted
    _check_visible({region: _label_set(labels[region]) for region in regions})
    others = {name: value for name, value in labels.items() if name not in regions}
    ordered = {**others, **{region: labels[region] for region in regions}}
    return {**dataset, "labels": ordered, "regions_class_order": values}, channels


def _label_set(value: Any) -> set[int]:
    return set(value) if isinstance(value, (list, tuple)) else {value}


def _check_visible(regions: Mapping[str, set[int]]) -> None:
    for (below, few), (above, many) in combinations(regions.items(), 2):
        if few <= many:
            msg = (
                f"region {above} of dataset.json would be painted over {below}, of which it holds every label: give "
                "regions_class_order the value with which the bundle paints each region, the larger regions first"
            )
            raise ValueError(msg)
