"""Reading: one channel, three axes, one orientation, whatever the file is."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile

from scd_plugin.report.volume import differs, read_label_map, read_volume

ARRAY = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)


def test_spacing_and_place(tmp_path: Path, volumes: Any) -> None:
    volume = read_volume(volumes.write(tmp_path / "a.nii.gz", ARRAY, spacing=(0.5, 2, 3)))
    assert volume.spacing == pytest.approx((3, 2, 0.5))
    assert np.array_equal(volume.voxels, ARRAY)
    assert (volume.flat, volume.unit, volume.oriented, volume.note) == (False, "mm", True, "")


def test_orientations_are_brought_together(tmp_path: Path, volumes: Any) -> None:
    path = volumes.write(tmp_path / "a.nii.gz", ARRAY, spacing=(1, 2, 3))
    turned = sitk.DICOMOrient(sitk.ReadImage(str(path)), "SRA")
    sitk.WriteImage(turned, str(tmp_path / "turned.nii.gz"))
    one, other = read_volume(path), read_volume(tmp_path / "turned.nii.gz")
    assert differs(one, other) == ""
    assert np.array_equal(one.voxels, other.voxels)


def test_colours_and_a_fourth_axis_show_the_first(tmp_path: Path, volumes: Any) -> None:
    colours = volumes.write(
        tmp_path / "a.png", np.stack([ARRAY[0] + 7, ARRAY[0]], -1)[..., [0, 1, 1]].astype(np.uint8), channels=True
    )
    volume = read_volume(colours)
    assert np.array_equal(volume.voxels, ARRAY[:1] + 7)
    assert (volume.flat, volume.unit, volume.note) == (True, "pixels", "the first of 3 channels is shown")
    sitk.WriteImage(
        sitk.JoinSeries([sitk.GetImageFromArray(ARRAY), sitk.GetImageFromArray(ARRAY + 1)]), str(tmp_path / "b.nii.gz")
    )
    volume = read_volume(tmp_path / "b.nii.gz")
    assert np.array_equal(volume.voxels, ARRAY)
    assert volume.note == "the first of 2 along axis 4 is shown"


def test_flat_images_with_millimetres(tmp_path: Path, volumes: Any) -> None:
    volume = read_volume(volumes.write(tmp_path / "a.mha", ARRAY[0], spacing=(2, 3)))
    assert (volume.spacing, volume.flat, volume.unit, volume.oriented) == ((1, 3, 2), True, "mm", False)


def test_tiff_has_its_spacing_beside_it(tmp_path: Path) -> None:
    voxels = np.arange(2 * 5 * 6, dtype=np.int16).reshape(2, 5, 6)
    tifffile.imwrite(tmp_path / "a_0000.tif", voxels, compression="zlib")
    assert read_volume(tmp_path / "a_0000.tif").spacing == (1, 1, 1)
    (tmp_path / "a.json").write_text(json.dumps({"spacing": [3, 2, 1]}))
    volume = read_volume(tmp_path / "a_0000.tif")
    assert (volume.spacing, volume.oriented) == ((3, 2, 1), False)
    assert np.array_equal(volume.voxels, voxels)
    (tmp_path / "a.json").write_text(json.dumps({"spacing": 3}))
    with pytest.raises(ValueError, match=r"a.json must hold a spacing of three numbers, for a_0000.tif"):
        read_volume(tmp_path / "a_0000.tif")


def test_what_is_no_image_or_no_label_map(tmp_path: Path, volumes: Any) -> None:
    (tmp_path / "a.nii.gz").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"a.nii.gz can't be read as an image: it is damaged, or of another format"):
        read_volume(tmp_path / "a.nii.gz")
    path = volumes.write(tmp_path / "b.nii", ARRAY)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"b.nii is cut off: it holds 392 of 400 bytes"):
        read_volume(path)
    with pytest.raises(ValueError, match=r"c.nii.gz is no label map: it must hold whole numbers from 0 to 65535, and"):
        read_label_map(volumes.write(tmp_path / "c.nii.gz", ARRAY + np.float32(0.5)))
    whole = read_label_map(volumes.write(tmp_path / "d.nii.gz", ARRAY.astype(np.float32)))
    assert np.array_equal(whole.voxels, ARRAY)
    assert whole.voxels.dtype == np.uint16
    for name, value in (("f", -1), ("g", 65536)):
        with pytest.raises(ValueError, match=rf"and it holds {min(value, 1)} to {max(value, 1)}; is it an image"):
            read_label_map(volumes.write(tmp_path / f"{name}.nii.gz", np.array([[[1, value]] * 2] * 2, np.int32)))
    with pytest.raises(ValueError, match="is no label map"):
        read_label_map(volumes.write(tmp_path / "e.mha", np.full((2, 2, 2), np.nan, np.float32)))


def test_complex_voxels_show_their_absolute_values(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.full((3, 4, 5), 3 + 4j, np.complex64), np.eye(4)), tmp_path / "a.nii.gz")
    volume = read_volume(tmp_path / "a.nii.gz")
    assert np.array_equal(volume.voxels, np.full((5, 4, 3), 5))
    assert volume.note == "it is complex, its absolute values are shown"


def test_names_and_axes_that_the_reader_does_not_take(tmp_path: Path, volumes: Any) -> None:
    path = volumes.write(tmp_path / "a.nii.gz", ARRAY)
    found = path.rename(tmp_path / os.fsdecode(b"\xff.nii.gz"))
    with pytest.raises(ValueError, match=r"udcff.nii.gz' can't be read: its name holds bytes that are no letters"):
        read_volume(found)
    sheared = np.eye(4)
    sheared[0, 1] = 0.5
    nib.save(nib.Nifti1Image(ARRAY, sheared), tmp_path / "b.nii.gz")
    with pytest.raises(ValueError, match="its axes are not at right angles"):
        read_volume(tmp_path / "b.nii.gz")


def test_how_geometries_differ(tmp_path: Path, volumes: Any) -> None:
    one = read_volume(volumes.write(tmp_path / "a.nii.gz", ARRAY))
    smaller = read_volume(volumes.write(tmp_path / "b.nii.gz", ARRAY[:, :2]))
    assert differs(smaller, one) == "4 x 2 x 2 voxels instead of 4 x 3 x 2"
    wider = read_volume(volumes.write(tmp_path / "c.nii.gz", ARRAY, spacing=(1, 1, 2)))
    assert differs(wider, one) == "another place, up to 1 mm away (origin, axes or spacing differ)"
    rounded = read_volume(volumes.write(tmp_path / "d.nii.gz", ARRAY, spacing=(1.00001, 1, 1)))
    assert differs(rounded, one) == ""
