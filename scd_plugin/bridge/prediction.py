"""MONAI's window and postprocessing in nnU-Net's words. Plain values only."""

from __future__ import annotations

from collections.abc import Sequence

from scd_plugin.bridge.preprocessing import Component

__all__ = ["predicts_regions", "window_notes"]

_HARMLESS = ("Invertd", "SaveImaged", "EnsureTyped", "DeleteItemsd", "SelectItemsd", "Identityd", "ToTensord")
_THRESHOLD = 0.5


def predicts_regions(postprocessing: Sequence[Component]) -> bool:
    """Whether channels are regions, each with a threshold, and not classes of which the largest wins.

    Args:
        postprocessing: what happens to the network's output, in its order.

    Raises:
        ValueError: naming the first transform that nnU-Net's prediction has nothing like.
    """
    regions = False
    for transform in postprocessing:
        arguments = transform.arguments
        if transform.name in _HARMLESS:
            continue
        if transform.name == "Activationsd":
            regions = regions or bool(arguments.get("sigmoid"))
        elif transform.name == "RegionsToLabelsd":
            regions = True
        elif transform.name == "AsDiscreted":
            threshold = arguments.get("threshold")
            if threshold not in (None, False, _THRESHOLD):
                msg = (
                    f"postprocessing transform AsDiscreted can't be moved: nnU-Net's threshold is 0.5; got {threshold}"
                )
                raise ValueError(msg)
            regions = regions or threshold == _THRESHOLD
        else:
            msg = (
                f"postprocessing transform {transform.name} can't be moved: nnU-Net's prediction ends with the largest "
                "of the classes, or with regions above 0.5"
            )
            raise ValueError(msg)
    return regions


def window_notes(roi_size: Sequence[int], overlap: float, mode: str, img_size: Sequence[int]) -> list[str]:
    """What a sliding window of nnU-Net does differently.

    Args:
        roi_size: of MONAI's inferer, voxels.
        overlap: too.
        mode: too, `"gaussian"` or `"constant"`.
        img_size: of the network.

    Returns:
        One sentence each.

    Raises:
        ValueError: if the window is not the network's.
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
