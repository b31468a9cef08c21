"""How far a class is where it should be, by MONAI's metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from monai.metrics import compute_dice, compute_hausdorff_distance, compute_surface_dice
from scipy.ndimage import find_objects

from scd_plugin.report.volume import Array

__all__ = ["Scores", "class_scores", "surface_axes"]

PERCENTILE = 95


class Scores(NamedTuple):
    """Dice and surface Dice from 0 to 1, and the Hausdorff distance at 95 % in mm; None where it has no meaning."""

    dice: float | None
    surface_dice: float | None
    hd95: float | None


def surface_axes(shape: Sequence[int]) -> list[int]:
    """Return the axes of an image that have surfaces across them: not those of one voxel, as long as two are left."""
    long = [axis for axis, size in enumerate(shape) if size > 1]
    return long if len(long) > 1 else [1, 2] if shape[0] == 1 else [0, 1 if shape[1] > 1 else 2]


def class_scores(
    prediction: Array, truth: Array, spacing: Sequence[float], tolerance: float, *, axes: Sequence[int] = (0, 1, 2)
) -> Scores:
    """Score one class.

    Args:
        prediction: (Z, Y, X), bool, of the whole image or any part that holds the class.
        truth: (Z, Y, X), bool.
        spacing: along Z, Y and X.
        tolerance: how far surfaces may lie apart for the surface Dice, in the unit of the spacing.
        axes: two or three along which surfaces are looked for; see `surface_axes`.

    Returns:
        No scores where neither has the class; without a distance where one has it alone, for it has no surface then.
    """
    found = find_objects((prediction | truth).astype(np.uint8))
    if not found:
        return Scores(None, None, None)
    if not (prediction.any() and truth.any()):
        return Scores(0.0, 0.0, None)
    masks = []
    for mask in (prediction, truth):
        part = np.squeeze(mask[found[0]], axis=tuple(axis for axis in range(3) if axis not in axes))
        masks.append(torch.from_numpy(np.pad(part, 1))[None, None].float())
    edges = [float(spacing[axis]) for axis in axes]
    dice = compute_dice(*masks, include_background=True)
    surface = compute_surface_dice(*masks, class_thresholds=[tolerance], include_background=True, spacing=edges)
    far = compute_hausdorff_distance(*masks, include_background=True, percentile=PERCENTILE, spacing=edges)
    return Scores(float(dice), float(surface), float(far))
