"""Image files that were cut off, as by a broken download: ITK reads what is missing as 0 and says nothing.

Of ITK's formats these are NIfTI (one file or two), GIPL and TIFF. MetaImage and NRRD notice by themselves.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from math import prod
from pathlib import Path
from typing import Any

import nibabel as nib
import tifffile

__all__ = ["check_complete", "tells_its_size"]

NIFTI = (".nii", ".nii.gz", ".hdr", ".img", ".img.gz")
GIPL = (".gipl", ".gipl.gz")
TIFF = (".tif", ".tiff")
# nibabel looks at so many bytes to tell the kind of a file
_NIFTI_SNIFFED = 1024
# of a GIPL file: four sizes and the kind of voxel stand first, big-endian, in a header of so many bytes
_GIPL_HEADER, _GIPL_BYTES = 256, {7: 1, 8: 1, 15: 2, 16: 2, 31: 4, 32: 4, 64: 4, 65: 8}
# the last four bytes of a gzip file tell its unpacked size, modulo this
_SIZE_MODULUS = 1 << 32
_CHUNK = 1 << 16
# zlib's number for gzip, header and all
_GZIP = 31


def tells_its_size(path: Path) -> bool:
    """Tell whether the format is NIfTI, whose voxels need not be read to find a file that was cut off."""
    return path.name.lower().endswith(NIFTI)


def check_complete(path: Path) -> None:
    """Refuse an image file that was cut off; for formats whose readers do not notice, see above.

    Args:
        path: an image file; of NIfTI's pairs either one.

    Raises:
        ValueError: if it, or the other one of a pair, is shorter than its header says.
    """
    name = path.name.lower()
    try:
        if name.endswith(NIFTI):
            _check_nifti(path)
        elif name.endswith(GIPL):
            _check_gipl(path)
        elif name.endswith(TIFF):
            _check_tiff(path)
    except nib.spatialimages.HeaderDataError as error:
        msg = f"{path} is cut off or damaged: its header can't be read ({error}); copy or download it again"
        raise ValueError(msg) from None
    except (EOFError, IndexError, zlib.error, struct.error):
        msg = f"{path} is cut off or damaged: it ends within its header; copy or download it again"
        raise ValueError(msg) from None
    except (OSError, nib.filebasedimages.ImageFileError, tifffile.TiffFileError):
        # no file of its kind, which the reader says
        return


def _check_nifti(path: Path) -> None:
    pair = path.name.lower().endswith((".img", ".img.gz"))
    try:
        image: Any = nib.load(path.with_name(f"{path.name.partition('.img')[0]}.hdr") if pair else path)
    except ValueError as error:
        # nibabel tells neither the file nor where to look
        msg = f"{path} is damaged: its header gives no orientation (qform: {error}); correct it, or write it again"
        raise ValueError(msg) from None
    except nib.filebasedimages.ImageFileError:
        # nibabel says so of a packed file, too, that ends within these bytes
        with _open(path) as file:
            file.read(_NIFTI_SNIFFED)
        raise
    voxels = Path(image.file_map["image"].filename)
    _compare(voxels, image.dataobj.offset + prod(image.shape) * image.get_data_dtype().itemsize)


def _check_gipl(path: Path) -> None:
    with _open(path) as file:
        *size, kind = struct.unpack_from(">5H", file.read(_GIPL_HEADER))
    if kind in _GIPL_BYTES:
        _compare(path, _GIPL_HEADER + prod(max(1, edge) for edge in size) * _GIPL_BYTES[kind])


def _check_tiff(path: Path) -> None:
    """Look at all pages, each of which tells where its voxels are and where the next one is."""
    with tifffile.TiffFile(path) as tiff:
        file, form, offset = tiff.filehandle, tiff.tiff, tiff.pages.first.offset
        ends = [0]
        while offset:
            ends.append(offset)
            if offset >= file.size:
                break
            file.seek(offset)
            (tags,) = struct.unpack(form.tagnoformat, file.read(form.tagnosize))
            file.seek(offset + form.tagnosize + tags * form.tagsize)
            (offset,) = struct.unpack(form.offsetformat, file.read(form.offsetsize))
        ends += [sum(last) for page in tiff.pages for last in zip(page.dataoffsets, page.databytecounts)]
    _compare(path, max(ends))


def _compare(path: Path, expected: int) -> None:
    """Raise ValueError if a file, unpacked, has fewer bytes than it must have."""
    if path.suffix.lower() != ".gz":
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


def _open(path: Path) -> Any:
    return gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")


def _unpacked_size(path: Path) -> int:
    """Bytes that can be unpacked of a gzip file, of all its members."""
    size, member = 0, zlib.decompressobj(_GZIP)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            while chunk:
                try:
                    size += len(member.decompress(chunk))
                except zlib.error:
                    return size
                chunk = member.unused_data
                member = zlib.decompressobj(_GZIP) if member.eof else member
    return size
