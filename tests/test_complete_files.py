"""Files that were cut off, in every format and at every place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from scd_plugin.complete_files import check_complete
from scd_plugin.voxel_values import unusable_files

Write = Callable[..., Path]
VOXELS = np.random.default_rng(0).integers(1, 3000, (12, 20, 24)).astype(np.int16)
# formats whose readers put 0 where voxels are missing
SILENT = ["a.nii", "a.nii.gz", "a.hdr", "a.gipl", "a.gipl.gz"]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes an image; for a pair of files returns the one with the voxels."""

    def to(name: str, *, compressed: bool = False) -> Path:
        sitk.WriteImage(sitk.GetImageFromArray(VOXELS), str(tmp_path / name), compressed)
        return tmp_path / name.replace(".hdr", ".img")

    return to


def reads_as_written(path: Path) -> bool:
    try:
        return bool(np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), VOXELS))
    except RuntimeError:
        return True


@pytest.mark.parametrize("name", [*SILENT, "a.tif", "a.mha", "a.nrrd"])
def test_whole_files_pass(write: Write, name: str) -> None:
    check_complete(write(name))


@pytest.mark.parametrize("name", [*SILENT, "a.tif", "a.mha", "a.nrrd"])
@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "compressed"])
def test_no_cut_goes_unnoticed(write: Write, name: str, compressed: bool) -> None:
    file = write(name, compressed=compressed)
    whole = file.read_bytes()
    ends = {0, 1, 100, 255, 256, 300, 347, 348, 352, 353, 400, *(len(whole) * part // 10 for part in range(1, 10))}
    for end in sorted(ends | {len(whole) - 9, len(whole) - 1}):
        file.write_bytes(whole[:end])
        # refused here, or by the reader
        if not list(unusable_files([file])):
            assert reads_as_written(file), end


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.hdr", "a.gipl"])
def test_the_sentence(write: Write, name: str) -> None:
    file = write(name)
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(ValueError, match=rf"{file.name} is cut off: it holds \d+ of 11\d+ bytes \(unpacked\); copy or"):
        check_complete(file)


def test_within_the_header(write: Write) -> None:
    file = write("a.nii.gz")
    file.write_bytes(file.read_bytes()[:255])
    with pytest.raises(ValueError, match=r"a.nii.gz is cut off or damaged: it ends within its header; copy or"):
        check_complete(file)


@pytest.mark.parametrize("end", [352, 353, 540, 700])
def test_within_what_nifti_adds_to_the_header(tmp_path: Path, end: int) -> None:
    file = tmp_path / "a.nii"
    image = nib.Nifti1Image(VOXELS, np.eye(4))
    image.header.extensions.append(nib.nifti1.Nifti1Extension(6, b"hello" * 100))
    nib.save(image, file)
    check_complete(file)
    file.write_bytes(file.read_bytes()[:end])
    with pytest.raises(ValueError, match=r"a.nii is cut off or damaged: its header can.t be read"):
        check_complete(file)


def test_a_header_that_promises_more(tmp_path: Path) -> None:
    file = tmp_path / "a.nii"
    nib.save(nib.Nifti1Image(VOXELS, np.eye(4)), file)
    content = bytearray(file.read_bytes())
    # the first size, 12 of them before
    content[42:44] = (300).to_bytes(2, "little")
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"a.nii is cut off: it holds 11872 of 288352 bytes"):
        check_complete(file)


def test_what_is_no_image_is_the_readers_affair(tmp_path: Path) -> None:
    text = tmp_path / "a.nii.gz"
    text.write_text("no image")
    check_complete(text)
    check_complete(tmp_path / "not_there.nii")
    assert list(unusable_files([text])) == []
