"""How far a class is where it should be, by MONAI's metrics."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from monai.metrics import compute_dice, compute_hausdorff_distance, compute_surface_dice
from scipy.ndimage import find_objects

from scd_plugin.report.volume import Array

__all__ = ["Scores", "class_scores"]

PERCENTILE = 95


class Scores(NamedTuple):
    """Dice and surface Dice from 0 to 1, and the Hausdorff distance at 95 % in mm; None where it has no meaning."""

    dice: float | None
    surface_dice: float | None
    hd95: float | None


def class_scores(prediction: Array, truth: Array, spacing: Sequence[float], tolerance: float) -> Scores:
    """Score one class.

    Args:
        prediction: (Z, Y, X), bool.
        truth: (Z, Y, X), bool.
        spacing: along Z, Y and X.
        tolerance: how far surfaces may lie apart for the surface Dice, in the unit of the spacing.

    Returns:
        No scores where neither has the class; without a distance where one has it alone, for it has no surface then.
    """
    found = find_objects((prediction | truth).astype(np.uint8))
    if not found:
        return Scores(None, None, None)
    if not (prediction.any() and truth.any()):
        return Scores(0.0, 0.0, None)
    # an axis of one voxel has no surface across it
    kept = [axis for axis, size in enumerate(prediction.shape) if size > 1]
    kept = kept if len(kept) > 1 else [1, 2]
    masks = []
    for mask in (prediction, truth):
        part = np.squeeze(mask[found[0]], axis=tuple(axis for axis in range(3) if axis not in kept))
        masks.append(torch.from_numpy(np.pad(part, 1))[None, None].float())
    edges = [float(spacing[axis]) for axis in kept]
    with warnings.catch_warnings():
        # MONAI calls itself with an argument that it has deprecated
        warnings.filterwarnings("ignore", category=FutureWarning)
        dice = compute_dice(*masks, include_background=True)
        surface = compute_surface_dice(*masks, class_thresholds=[tolerance], include_background=True, spacing=edges)
        far = compute_hausdorff_distance(*masks, include_background=True, percentile=PERCENTILE, spacing=edges)
    return Scores(float(dice), float(surface), float(far))
