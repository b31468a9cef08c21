"""Voxels that no network can be given."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from scd_plugin.voxel_values import check_stored_values, wrong_values

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ([0, 1], ""),
        ([-32768, 32767], ""),
        ([-1e13, 1e13], ""),
        ([0, NAN], "NaN or infinite voxels"),
        ([NAN, NAN], "NaN or infinite voxels"),
        ([-INF, 1], "NaN or infinite voxels"),
        ([INF, -INF], "NaN or infinite voxels"),
        ([0, 1e30], "voxels of up to 1e+30, beyond 1e+14"),
        ([-2e15, 0], "voxels of up to 2e+15, beyond 1e+14"),
    ],
    ids=str,
)
def test_wrong_values(values: list[float], problem: str) -> None:
    assert wrong_values(np.array(values, np.float32).reshape(1, 1, -1)) == problem


@pytest.mark.parametrize(
    ("value", "dtype", "slope", "said"),
    [
        (1e30, np.float32, None, "1e[+]30"),
        (1e300, np.float64, None, "1e[+]300"),
        (3, np.int16, 1e30, "3e[+]30"),
        (-(2**62), np.int64, None, "4.6e[+]18"),
        (3, np.int16, 1e12, ""),
        (2**40, np.int64, None, ""),
        (1e13, np.float32, None, ""),
    ],
)
def test_huge_voxels_of_nifti_files(tmp_path: Path, value: float, dtype: type, slope: float | None, said: str) -> None:
    voxels = np.zeros((4, 4, 4), dtype)
    voxels[1, 1, 1] = value
    image = nib.Nifti1Image(voxels, np.eye(4), dtype=dtype)
    image.header.set_slope_inter(slope, 0 if slope else None)
    path = tmp_path / "a.nii.gz"
    image.to_filename(path)
    if said:
        with pytest.raises(ValueError, match=rf"a.nii.gz holds voxels of up to {said}, beyond 1e\+14: replace them"):
            check_stored_values(path)
    else:
        check_stored_values(path)


def test_integers_and_nothing() -> None:
    assert wrong_values(np.array([0, 2**16 - 1], np.uint16)) == ""
    assert wrong_values(np.zeros((0, 3))) == ""
    # as float32 it is infinite
    assert wrong_values(np.array([1e39])) == "voxels of up to 1e+39, beyond 1e+14"


def nifti(path: Path, values: list[complex], kind: str) -> Path:
    nib.save(nib.Nifti1Image(np.array(values, kind).reshape(1, 1, -1), np.eye(4)), path)
    return path


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".img"])
@pytest.mark.parametrize("kind", ["f4", "f8"])
@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_itk_reads_zeros_where_nifti_holds_none(tmp_path: Path, ending: str, kind: str, value: float) -> None:
    path = nifti(tmp_path / f"a{ending}", [1, value, 2], kind)
    assert sitk.GetArrayFromImage(sitk.ReadImage(str(path))).ravel().tolist() == [1, 0, 2]
    with pytest.raises(ValueError, match=rf"a{ending} holds NaN or infinite voxels: replace"):
        check_stored_values(path)


@pytest.mark.parametrize("kind", ["c8", "c16"])
def test_complex_numbers(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ValueError, match=r"a.nii.gz holds complex numbers; .* take the magnitude"):
        check_stored_values(nifti(tmp_path / "a.nii.gz", [1, 2j], kind))


@pytest.mark.parametrize("kind", ["u1", "i2", "f4", "f8"])
def test_whole_images_pass(tmp_path: Path, kind: str) -> None:
    check_stored_values(nifti(tmp_path / "a.nii.gz", [1, 2, 3], kind))


def test_what_is_no_nifti_passes(tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_text("no image")
    check_stored_values(tmp_path / "a.nii")
    check_stored_values(tmp_path / "a.nrrd")
