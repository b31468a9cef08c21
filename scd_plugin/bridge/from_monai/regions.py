"""Regions that overlap: nnU-Net paints them in the order of its channels, MONAI's bundles in any order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from scd_plugin.bridge.bundle_files import label_channels
from scd_plugin.bridge.from_monai.postprocessing import Painting

__all__ = ["in_painting_order"]


def in_painting_order(
    dataset: Mapping[str, Any], names: Sequence[str], painting: Painting
) -> tuple[dict[str, Any], list[int]]:
    """Match a bundle's channels to the regions of a dataset.json, in the order in which they are painted.

    Args:
        dataset: a dataset.json with as many regions as the bundle.
        names: names of the bundle's channels.
        painting: how the bundle makes a label map. Where it says so, regions are matched by the value that they are
            painted with, else by their names.

    Returns:
        The dataset.json with its regions in the order in which the bundle paints them, and the bundle's channel for
        each.

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
