"""NIfTI files that were cut off, as by a broken download: ITK reads what is missing as 0 and says nothing."""

from __future__ import annotations

import gzip
import zlib
from math import prod
from pathlib import Path
from typing import Any

import nibabel as nib

__all__ = ["check_complete", "tells_its_size"]

# the last four bytes of a gzip file tell its unpacked size, modulo this
_SIZE_MODULUS = 1 << 32
_CHUNK = 1 << 20


def tells_its_size(path: Path) -> bool:
    """Tell whether `check_complete` knows the format."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def check_complete(path: Path) -> None:
    """Refuse a NIfTI file that was cut off. The readers of other formats notice by themselves, with the voxels.

    Args:
        path: an image file.

    Raises:
        ValueError: if a NIfTI file is shorter than its header says.
    """
    if not tells_its_size(path):
        return
    try:
        image: Any = nib.load(path)
        expected = image.dataobj.offset + prod(image.shape) * image.get_data_dtype().itemsize
    except (OSError, EOFError, zlib.error, nib.filebasedimages.ImageFileError):
        # not readable at all, which the reader says
        return
    if path.name.lower().endswith(".nii"):
        found = path.stat().st_size
    else:
        with path.open("rb") as file:
            file.seek(-4, 2)
            size = int.from_bytes(file.read(4), "little")
        # cheap, and wrong only where the file is cut off, or holds more than one image needs
        found = expected if size == expected % _SIZE_MODULUS else _unpacked_size(path)
    if found < expected:
        msg = f"{path} is cut off: it holds {found} of {expected} bytes (unpacked); copy or download it again"
        raise ValueError(msg)


def _unpacked_size(path: Path) -> int:
    size = 0
    try:
        with gzip.open(path) as file:
            while chunk := file.read(_CHUNK):
                size += len(chunk)
    except (EOFError, OSError, zlib.error):
        return size
    return size
