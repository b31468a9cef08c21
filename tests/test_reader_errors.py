"""SimpleITK's reasons, with a remedy."""

from __future__ import annotations

import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from scd_plugin.complete_files import check_complete
from scd_plugin.reader_errors import reading_error


def nifti(path: Path, changes: dict[int, tuple[str, tuple[float, ...]]]) -> Path:
    """A NIfTI file with other bytes at some places of its header."""
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.eye(4))
    image.set_qform(np.eye(4), 1)
    nib.save(image, path)
    content = bytearray(path.read_bytes())
    for offset, (kind, values) in changes.items():
        struct.pack_into(kind, content, offset, *values)
    path.write_bytes(content)
    return path


QFORM_CODE, SFORM_CODE, QUATERNION, SFORM, DIM, DATATYPE = 252, 254, 256, 280, 40, 70
SHEARED = (1, 0.5, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0)


def said(path: Path) -> str:
    with pytest.raises(RuntimeError) as caught:
        sitk.ReadImage(str(path))
    return reading_error([path], caught.value)


def test_sheared(tmp_path: Path) -> None:
    path = nifti(tmp_path / "a.nii", {QFORM_CODE: ("<h", (0,)), SFORM: ("<12f", SHEARED)})
    remedy = "its axes are not at right angles (a sheared affine): resample it to a straight grid"
    assert said(path) == f"{path} can't be read as an image: {remedy}"


@pytest.mark.parametrize("name", ["a.nii", "a.nrrd", "a.mha", "a.nii.gz"])
@pytest.mark.parametrize("content", [b"", b"no image" * 100], ids=["empty", "text"])
def test_no_image(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert said(tmp_path / name).endswith(
        f"{name} can't be read as an image: it is damaged, or of another format than its name says: write or "
        "download it again"
    )


def test_size_of_nothing(tmp_path: Path) -> None:
    assert "it is damaged, or of another format" in said(nifti(tmp_path / "a.nii", {DIM: ("<4h", (3, 0, 5, 6))}))


def test_other_reasons_without_their_addresses() -> None:
    error = RuntimeError("Exception thrown\nITK ERROR: NiftiImageIO(0x55bc61b5a0f0): out of luck")
    assert reading_error(["a", "b"], error) == "a, b can't be read as an image: out of luck"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {SFORM_CODE: ("<h", (0,)), QUATERNION: ("<3f", (0.9, 0.9, 0.9))},
            r"a.nii is damaged: its header gives no orientation \(qform: w2 should be positive, but is .*correct it",
        ),
        ({DATATYPE: ("<h", (9999,))}, r"a.nii is cut off or damaged: its header can't be read \(data code 9999 "),
    ],
    ids=["quaternion", "data type"],
)
def test_headers_that_nibabel_refuses(
    tmp_path: Path, changes: dict[int, tuple[str, tuple[float, ...]]], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        check_complete(nifti(tmp_path / "a.nii", changes))
