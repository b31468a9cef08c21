"""Translates a bundle's window and postprocessing to nnU-Net's prediction. Plain values only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from scd_plugin.bridge.from_monai.preprocessing import Component

__all__ = ["Painting", "region_painting", "window_notes"]

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

    Args:
        postprocessing: transforms of the network's output, in their order.

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
    """Say what nnU-Net's sliding window does differently, one sentence each.

    Args:
        roi_size: MONAI's window, voxels per axis.
        overlap: MONAI's share by which neighbouring windows overlap.
        mode: MONAI's weights, `"gaussian"` or `"constant"`.
        img_size: the network's crop.

    Raises:
        ValueError: if the window is not the network's crop.
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
