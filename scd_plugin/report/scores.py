"""How far a class is where it should be, by MONAI's metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from monai.metrics import compute_dice
from monai.metrics.utils import get_edge_surface_distance
from scipy.ndimage import find_objects

from scd_plugin.report.volume import Array

__all__ = ["Scores", "class_scores", "surface_axes"]

QUANTILE = 0.95


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
    squeezed = tuple(axis for axis in range(3) if axis not in axes)
    masks = [torch.from_numpy(np.pad(np.squeeze(mask[found[0]], squeezed), 1)) for mask in (prediction, truth)]
    dice = compute_dice(*(mask[None, None].float() for mask in masks), include_background=True)
    # what MONAI's surface Dice and Hausdorff distance are made of; each of them would look for it anew
    edges = [float(spacing[axis]) for axis in axes]
    _, distances, _ = get_edge_surface_distance(*masks, spacing=edges, symmetric=True)
    near, far = torch.cat(distances) <= tolerance, max(torch.quantile(one, QUANTILE) for one in distances)
    return Scores(float(dice), float(near.float().mean()), float(far))
