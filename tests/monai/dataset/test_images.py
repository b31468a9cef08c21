"""What can be segmented: files, series, data sets."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImage, SaveImage

from scd_plugin.monai import list_images, output_name


def names(entries: list[dict[str, Any]]) -> list[Any]:
    return [
        Path(e["image"]).name if isinstance(e["image"], str) else [Path(path).name for path in e["image"]]
        for e in entries
    ]


def test_files_of_every_format(volumes: Any, tmp_path: Path) -> None:
    for ending in (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd"):
        volumes.write(tmp_path / f"Fall ä {ending[1:]}{ending}", np.zeros(volumes.shape, np.float32))
    (tmp_path / "notes.txt").touch()
    assert len(list_images(tmp_path, channels=1)) == 5


def test_one_file(volumes: Any, tmp_path: Path) -> None:
    path = volumes.write(tmp_path / "a.mha", np.zeros(volumes.shape, np.float32))
    assert list_images(path, channels=1) == [{"image": str(path)}]


def test_numbered_channels(volumes: Any, tmp_path: Path) -> None:
    for name in ("a_0000", "a_0001", "b_0000", "b_0001"):
        volumes.write(tmp_path / f"{name}.nii.gz", np.zeros(volumes.shape, np.float32))
    assert names(list_images(tmp_path, channels=2)) == [
        ["a_0000.nii.gz", "a_0001.nii.gz"],
        ["b_0000.nii.gz", "b_0001.nii.gz"],
    ]
    assert len(list_images(tmp_path, channels=1)) == 4


def test_a_data_sets_test_images_come_first(volumes: Any, tmp_path: Path) -> None:
    volumes.nnunet(tmp_path, num_cases=2)
    assert names(list_images(tmp_path, channels=1)) == ["case_0_0000.nii.gz", "case_1_0000.nii.gz"]
    volumes.write(tmp_path / "imagesTs" / "new_0000.nii.gz", np.zeros(volumes.shape, np.float32))
    assert names(list_images(tmp_path, channels=1)) == ["new_0000.nii.gz"]


def test_dicom_series_in_folders_of_their_own(volumes: Any, tmp_path: Path) -> None:
    volumes.series(tmp_path / "patient 1", "1.2.4")
    volumes.series(tmp_path / "patient 2", "1.2.5")
    assert names(list_images(tmp_path, channels=1)) == ["patient 1", "patient 2"]
    assert names(list_images(tmp_path / "patient 1", channels=1)) == ["patient 1"]


@pytest.mark.parametrize(
    ("name", "folder", "file"),
    [
        ("1.2.840.4", True, "1.2.840.4"),
        ("patient.2", True, "patient.2"),
        ("a.b.mha", False, "a.b"),
        ("c.nii.gz", False, "c"),
    ],
    ids=str,
)
def test_output_name(tmp_path: Path, name: str, folder: bool, file: str) -> None:
    if folder:
        (tmp_path / name).mkdir()
    saver = SaveImage(
        tmp_path / "out", "seg", output_name_formatter=output_name, separate_folder=False, print_log=False
    )
    saver(MetaTensor(torch.zeros(1, 4, 4, 4), meta={"filename_or_obj": str(tmp_path / name)}))
    assert [path.name for path in (tmp_path / "out").iterdir()] == [f"{file}_seg.nii.gz"]


def test_output_name_of_this_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "series.1").mkdir()
    monkeypatch.chdir(tmp_path / "series.1")
    assert output_name({"filename_or_obj": "."}, SaveImage()) == {"subject": "series.1.nii.gz", "idx": None}


def test_dicom_series_as_deep_as_they_lie(volumes: Any, tmp_path: Path) -> None:
    volumes.series(tmp_path / "patient" / "study" / "series", "1.2.4")
    volumes.series(tmp_path / "other", "1.2.5")
    assert names(list_images(tmp_path, channels=1)) == ["other", "series"]


def test_dicom_series_behind_links(volumes: Any, tmp_path: Path) -> None:
    volumes.series(tmp_path / "archive" / "study" / "series", "1.2.4")
    images = tmp_path / "images"
    volumes.series(images / "other", "1.2.5")
    (images / "patient").symlink_to(tmp_path / "archive")
    (images / "circle").symlink_to(images)
    assert names(list_images(images, channels=1)) == ["other", "series"]


def test_dicom_series_of_which_monai_would_read_a_part(volumes: Any, tmp_path: Path) -> None:
    series = volumes.series(tmp_path / "s", "1.2.4", thicknesses=[1, 1, 1, 2, 2])
    with pytest.warns(UserWarning, match="contains more than one DICOM series"):
        assert LoadImage(reader="ITKReader", image_only=True)(series).shape in ((8, 8, 2), (8, 8, 3))
    with pytest.raises(
        ValueError, match=r"DICOM series .*s is read in 2 parts, of [23], [23] slices: they differ in series"
    ):
        list_images(tmp_path, channels=1)


STRAIGHT, SIDEWAYS = (1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1)
# what a rotation of 20 degrees about x makes of it
LEANING = (1, 0, 0, 0, 0.9397, 0.3420)


class TestRegularSeries:
    """Positions in mm and orientations, slice by slice."""

    @pytest.mark.parametrize(
        "series",
        [
            {"positions": [(0, 0, z) for z in (0, 0.6, 1.3, 1.9, 2.5, 3.1)]},
            {"positions": [(0, 0, -z) for z in range(6)]},
            {"positions": [(3, -4, 7)]},
            {"orientations": [LEANING] * 5, "positions": [(0, -0.3420 * i, 0.9397 * i) for i in range(5)]},
            {"orientations": [SIDEWAYS] * 3, "positions": [(-i, 0, 0) for i in range(3)]},
        ],
        ids=["rounded", "downwards", "one slice", "leaning", "sagittal"],
    )
    def test_taken(self, volumes: Any, tmp_path: Path, series: dict[str, Any]) -> None:
        volumes.series(tmp_path / "s", "1.2.4", **series)
        assert names(list_images(tmp_path, channels=1)) == ["s"]

    @pytest.mark.parametrize(
        ("series", "sentence"),
        [
            (
                {"positions": [(0, 0, z) for z in (0, 1, 2, 3, 5, 6, 7)]},
                "1.2.4_3.dcm and 1.2.4_4.dcm lie 2 mm apart where slices lie 1 mm apart as a rule, as where slices are",
            ),
            ({"positions": [(0, 0, z) for z in (*range(9), 10)]}, "_8.dcm and 1.2.4_9.dcm lie 2 mm apart"),
            ({"positions": [(0, 0, z) for z in (*range(30), 31)]}, "_29.dcm and 1.2.4_30.dcm lie 2 mm apart"),
            ({"positions": [(0, 0, z) for z in (0, 1, 3, 6, 10, 15)]}, "lie 5 mm apart where slices lie 3 mm"),
            ({"positions": [(0, 0, z) for z in (0, 1, 2, 0, 1, 2)]}, "lie at one place, as where two echoes"),
            ({"positions": [(0, 0, z) for z in (0, 1, 2, 3, 3)]}, "_3.dcm and 1.2.4_4.dcm lie at one place"),
            ({"positions": [(0, 0, 0)] * 4}, "lie at one place"),
            (
                {"positions": [(0, 0.3 * z, z) for z in range(9)]},
                "shifted against each other, 2.4 mm from 1.2.4_0.dcm to 1.2.4_8.dcm, as of a tilted gantry",
            ),
            ({"orientations": [STRAIGHT] * 3 + [SIDEWAYS]}, "_3.dcm has another orientation than .*as a localizer"),
            ({"sizes": [8, 8, 8, 6]}, "_3.dcm has 6x6 voxels where 1.2.4_0.dcm has 8x8, as a localizer has"),
        ],
        ids=lambda value: "" if isinstance(value, dict) else value[:40],
    )
    def test_refused(self, volumes: Any, tmp_path: Path, series: dict[str, Any], sentence: str) -> None:
        volumes.series(tmp_path / "s", "1.2.4", **series)
        with pytest.raises(ValueError, match=rf"DICOM series .*s is not one regular volume: .*{sentence}"):
            list_images(tmp_path, channels=1)


def test_a_folder_with_the_name_of_an_image(volumes: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a", "c"):
        volumes.write(tmp_path / f"{name}.nii.gz", np.zeros(volumes.shape, np.float32))
    (tmp_path / "b.nii.gz").mkdir()
    assert names(list_images(tmp_path, channels=1)) == ["a.nii.gz", "c.nii.gz"]
    assert caplog.messages == [f"left out of {tmp_path}: folders: 1"]


def test_numbers_of_patients(volumes: Any, tmp_path: Path) -> None:
    for number in (1, 2):
        volumes.write(tmp_path / f"patient_{number:04d}.nii.gz", np.zeros((2, *volumes.shape), np.float32))
    assert names(list_images(tmp_path, channels=2)) == ["patient_0001.nii.gz", "patient_0002.nii.gz"]


@pytest.mark.parametrize("numbers", [(1, 2), (0, 2), (2, 3)], ids=str)
def test_channels_with_other_numbers(volumes: Any, tmp_path: Path, numbers: tuple[int, int]) -> None:
    for number in numbers:
        volumes.write(tmp_path / f"a_{number:04d}.nii.gz", np.zeros(volumes.shape, np.float32))
    there = ", ".join(f"a_{number:04d}.nii.gz" for number in numbers)
    with pytest.raises(ValueError, match=rf"of case a must be numbered a_0000, _0001, ... without a gap; .*{there}"):
        list_images(tmp_path, channels=2)


def test_two_series_in_one_folder(volumes: Any, tmp_path: Path) -> None:
    volumes.series(tmp_path / "p", "1.2.4")
    volumes.series(tmp_path / "p", "1.2.5")
    with pytest.raises(ValueError, match=r"p holds 2 DICOM series \(.*\), and nothing says which to take"):
        list_images(tmp_path, channels=1)


class TestWrong:
    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"must be an image or a folder of images; .*gone is neither"):
            list_images(tmp_path / "gone", channels=1)

    def test_empty(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"holds no image: neither a file with an ending of .nii.gz"):
            list_images(tmp_path, channels=1)

    @pytest.mark.parametrize(
        ("voxels", "channels", "sentence"),
        [
            (np.zeros((2, 5, 6, 7), np.float32), 1, "bad.nii.gz has 2 channels where the network takes 1"),
            (np.zeros((5, 6, 7), np.float32), 4, "bad.nii.gz has 1 channels where the network takes 4"),
            (np.zeros((5, 6), np.float32), 1, "bad.nii.gz is flat; this bundle takes volumes, nnU-Net"),
        ],
        ids=["four axes", "too few channels", "flat"],
    )
    def test_shape(self, volumes: Any, tmp_path: Path, voxels: np.ndarray, channels: int, sentence: str) -> None:
        volumes.write(tmp_path / "bad.nii.gz", voxels)
        with pytest.raises(ValueError, match=sentence):
            list_images(tmp_path, channels=channels)

    def test_channels_of_different_size(self, volumes: Any, tmp_path: Path) -> None:
        volumes.write(tmp_path / "a_0000.nrrd", np.zeros((5, 6, 7), np.float32))
        volumes.write(tmp_path / "a_0001.nrrd", np.zeros((5, 6, 8), np.float32))
        with pytest.raises(ValueError, match=r"a_0001.nrrd of one image differ in size: 7x6x5 and 8x6x5 voxels"):
            list_images(tmp_path, channels=2)

    @pytest.mark.parametrize(
        ("change", "sentence"),
        [
            (
                {"origin": (1e-4, 0, 0)},
                r"differ in origin \(0, 0, 0\) and \(0.0001, 0, 0\): write them with one geometry",
            ),
            ({"spacing": (2, 1, 1)}, r"differ in spacing \(1, 1, 1\) and \(2, 1, 1\): write"),
        ],
        ids=["origin", "spacing"],
    )
    def test_channels_of_different_geometry(self, tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
        for number in range(2):
            image = sitk.GetImageFromArray(np.zeros((5, 6, 7), np.float32))
            for name, value in change.items() if number else ():
                getattr(image, f"Set{name.capitalize()}")(value)
            sitk.WriteImage(image, str(tmp_path / f"a_{number:04d}.nii.gz"))
        with pytest.raises(ValueError, match=sentence):
            list_images(tmp_path, channels=2)
        # what they would come to
        with pytest.raises(RuntimeError, match="affine matrix of all images should be the same"):
            LoadImage()(sorted(tmp_path.iterdir()))

    def test_two_files_of_one_name(self, volumes: Any, tmp_path: Path) -> None:
        for name in ("a.nii", "a.mha", "b.nii"):
            volumes.write(tmp_path / name, np.zeros(volumes.shape, np.float32))
        with pytest.raises(ValueError, match=r"a.mha and a.nii are two files of one name, and nothing says which to"):
            list_images(tmp_path, channels=1)
        assert names(list_images(tmp_path, channels=1, skip_bad=True)) == ["b.nii"]

    def test_two_results_of_one_name(self, volumes: Any, tmp_path: Path) -> None:
        volumes.series(tmp_path / "p", "1.2.4")
        volumes.series(tmp_path / "p" / "p", "1.2.5")
        with pytest.raises(ValueError, match=r"the results of .*/p and .*/p/p would be one file: rename one of them"):
            list_images(tmp_path / "p", channels=1)

    def test_not_a_number(self, volumes: Any, tmp_path: Path) -> None:
        volumes.write(tmp_path / "bad.nrrd", np.full(volumes.shape, np.inf, np.float32))
        with pytest.raises(ValueError, match=r"bad.nrrd holds NaN or infinite voxels"):
            list_images(tmp_path, channels=1)

    def test_cut_off(self, volumes: Any, tmp_path: Path) -> None:
        path = volumes.write(tmp_path / "bad.mha", np.zeros(volumes.shape, np.int16))
        path.write_bytes(path.read_bytes()[:9000])
        with pytest.raises(ValueError, match=r"the voxels of .*bad.mha can't be read: the file is cut off or damaged"):
            list_images(tmp_path, channels=1)

    def test_unreadable_one_can_be_left_out(
        self, volumes: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        volumes.write(tmp_path / "good.nii.gz", np.zeros(volumes.shape, np.float32))
        (tmp_path / "bad.nii.gz").write_bytes(b"x" * 400)
        with pytest.raises(ValueError, match=r"bad.nii.gz can't be read as an image: .*--skip_bad True"):
            list_images(tmp_path, channels=1)
        with caplog.at_level(logging.WARNING):
            assert names(list_images(tmp_path, channels=1, skip_bad=True)) == ["good.nii.gz"]
        assert "left out: " in caplog.text
        (tmp_path / "good.nii.gz").unlink()
        with pytest.raises(ValueError, match=r"none of the 1 images in .* can be used"):
            list_images(tmp_path, channels=1, skip_bad=True)
