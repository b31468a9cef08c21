"""Turns the geometry that nnU-Net's readers return into the 4 x 4 affine that MONAI keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["affine_of", "preprocessed_affine", "spacing_of"]

Affine = npt.NDArray[np.float64]

# ITK's axes point to the patient's left and back, NIfTI's and MONAI's to the right and front
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def affine_of(properties: Mapping[str, Any]) -> Affine:
    """Affine (4, 4) of an image as read: voxel place (x, y, z) to millimetres (right, front, up).

    The properties are the second value of `read_images` of any of nnU-Net's readers. Where the file format knows no
    place in space, the affine is spacing alone.
    """
    if "sitk_stuff" in properties:
        known = properties["sitk_stuff"]
        dims = len(known["spacing"])
        affine = np.eye(4)
        affine[:dims, :dims] = np.asarray(known["direction"]).reshape(dims, dims) @ np.diag(known["spacing"])
        affine[:dims, 3] = known["origin"]
        return np.asarray(_LPS_TO_RAS @ affine, dtype=np.float64)
    if "nibabel_stuff" in properties:
        known = properties["nibabel_stuff"]
        return np.asarray(known.get("reoriented_affine", known["original_affine"]), dtype=np.float64)
    spacing = list(properties.get("spacing", (1, 1, 1)))
    return np.diag([*spacing[::-1], 1.0]).astype(np.float64)


def spacing_of(affine: npt.ArrayLike) -> list[float]:
    """Millimetres along z, y, x, the order of nnU-Net's arrays, from a (4, 4) affine."""
    steps = np.asarray(affine, dtype=np.float64)[:3, :3]
    return [float(step) for step in np.linalg.norm(steps, axis=0)[::-1]]


def preprocessed_affine(
    affine: npt.ArrayLike,
    transpose_forward: Sequence[int],
    bbox: Sequence[Sequence[int]],
    cropped_shape: Sequence[int],
    shape: Sequence[int],
) -> Affine:
    """Affine of an image after nnU-Net's transposing, cropping and resampling.

    Args:
        affine: (4, 4), of the image as read.
        transpose_forward: the plans' order of axes.
        bbox: what was cropped, first and last + 1 for each transposed axis.
        cropped_shape: voxels per transposed axis before resampling.
        shape: voxels per transposed axis after it.

    Returns:
        (4, 4): place in the preprocessed array, in its own axis order, to millimetres.
    """
    step = np.zeros((4, 4))
    step[3, 3] = 1
    for axis, source in enumerate(transpose_forward):
        # nnU-Net's arrays are z, y, x; the affine counts x, y, z
        world = 2 - source
        scale = cropped_shape[axis] / shape[axis]
        step[world, axis] = scale
        # resampling keeps the edges of the image, not the centres of its first voxels
        step[world, 3] = bbox[axis][0] + 0.5 * scale - 0.5
    return np.asarray(np.asarray(affine, dtype=np.float64) @ step, dtype=np.float64)
