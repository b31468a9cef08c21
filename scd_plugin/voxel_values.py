"""Images that a network can't be given, and what ITK hides of them: it reads NaN and infinity in NIfTI files as 0."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from scd_plugin.complete_files import check_complete, tells_its_size

__all__ = ["check_stored_values", "unusable_files", "wrong_values"]

# A normalisation squares and sums voxels in float32: a billion of these still fit.
LARGEST = 1e14
NOT_FINITE = "NaN or infinite voxels"


def wrong_values(voxels: npt.NDArray[Any]) -> str:
    """Say which voxels an image must not hold, in words that follow "holds"; empty where all can be used."""
    # of voxels with NaN both are NaN
    largest = max(float(voxels.max(initial=0)), -float(voxels.min(initial=0)))
    if not np.isfinite(largest):
        return NOT_FINITE
    return f"voxels of up to {largest:.2g}, beyond {LARGEST:.0e}" if largest > LARGEST else ""


def check_stored_values(path: Path) -> None:
    """Refuse a NIfTI file of complex numbers, or with voxels that are not finite or too large.

    Voxels of integers are not read, unless their type and scale let them be too large.

    Args:
        path: an image file; formats other than NIfTI, whose readers hide nothing, pass.

    Raises:
        ValueError: if its voxels are such.
    """
    if not tells_its_size(path):
        return
    try:
        image: Any = nib.load(path)
    except nib.filebasedimages.ImageFileError:
        # no file of its kind, which the reader says
        return
    dtype, scale, offset = image.get_data_dtype(), float(image.dataobj.slope), float(image.dataobj.inter)
    if dtype.kind == "c":
        msg = f"{path} holds complex numbers; an image has one real number a voxel: take the magnitude, for example"
        raise ValueError(msg)
    large = dtype.kind in "iu" and abs(scale) * np.iinfo(dtype).max + abs(offset) > LARGEST
    if dtype.kind == "f" or large:
        voxels = image.dataobj.get_unscaled()
        scaled = voxels if (scale, offset) == (1, 0) else voxels * scale + offset
        if problem := wrong_values(scaled):
            msg = f"{path} holds {problem}: replace them by the background's"
            raise ValueError(msg)


def unusable_files(paths: Iterable[Path]) -> list[str]:
    """Say of each image file that was cut off, or whose voxels are as above, in a sentence, that it is so."""
    return [sentence for sentence in map(_problem, paths) if sentence]


def _problem(path: Path) -> str:
    try:
        check_complete(path)
        check_stored_values(path)
    except ValueError as error:
        return str(error)
    return ""
