from __future__ import annotations

from pathlib import Path

import pytest
import SimpleITK as sitk

from scd_plugin.bridge.runtime.image_list import list_cases


def grouped(folder: Path, names: list[str], file_ending: str, num_channels: int) -> list[list[str]]:
    for name in names:
        (folder / name).touch()
    cases = list_cases(folder, file_ending, num_channels)
    return [[Path(file).name for file in case["image"]] for case in cases]


class TestChannels:
    def test_channels_of_each_case(self, tmp_path: Path) -> None:
        names = ["b_0001.nii.gz", "a_0000.nii.gz", "b_0000.nii.gz", "a_0001.nii.gz", "notes.txt"]
        assert grouped(tmp_path, names, ".nii.gz", 2) == [
            ["a_0000.nii.gz", "a_0001.nii.gz"],
            ["b_0000.nii.gz", "b_0001.nii.gz"],
        ]

    def test_plain_names_are_cases_of_one_channel(self, tmp_path: Path) -> None:
        assert grouped(tmp_path, ["b.mha", "a.mha", "c.nrrd"], ".mha", 1) == [["a.mha"], ["b.mha"]]

    def test_plain_names_beside_numbered_ones_are_left_out(self, tmp_path: Path) -> None:
        assert grouped(tmp_path, ["a_0000.mha", "label.mha"], ".mha", 1) == [["a_0000.mha"]]

    @pytest.mark.parametrize(
        "names",
        [["a_0000.mha", "a_0001.mha", "a_0002.mha"], ["a_0001.mha", "a_0002.mha"], ["a_0000.mha", "a_0002.mha"]],
        ids=" ".join,
    )
    def test_wrong_numbers(self, tmp_path: Path, names: list[str]) -> None:
        there = ", ".join(names)
        with pytest.raises(ValueError, match=rf"case a must be the files a_0000.mha, a_0001.mha.*there are {there}$"):
            grouped(tmp_path, names, ".mha", 2)

    def test_one_file_of_one_channel(self, tmp_path: Path) -> None:
        sitk.WriteImage(sitk.Image([4, 5, 6], sitk.sitkInt16), str(tmp_path / "a_0000.mha"))
        with pytest.raises(ValueError, match=r"case a must be the files a_0000.mha, a_0001.mha.*there are a_0000.mha$"):
            list_cases(tmp_path, ".mha", 2)

    def test_one_file_of_all_channels(self, tmp_path: Path) -> None:
        sitk.WriteImage(sitk.Image([4, 5], sitk.sitkVectorUInt8, 3), str(tmp_path / "a_0000.png"))
        assert list_cases(tmp_path, ".png", 3) == [{"image": [str(tmp_path / "a_0000.png")]}]

    def test_what_is_not_taken_is_counted(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        (tmp_path / "b_0000.mha").mkdir()
        (tmp_path / "c_0000.mha").symlink_to(tmp_path / "gone")
        names = ["a_0000.mha", "._a_0000.mha", "notes.txt"]
        assert grouped(tmp_path, names, ".mha", 1) == [["a_0000.mha"]]
        counted = "files of other endings: 1, folders: 1, hidden files: 1, links that lead nowhere: 1"
        assert caplog.messages == [f"left out of {tmp_path}: {counted}"]


class TestListCases:
    def test_data_list(self, tmp_path: Path) -> None:
        for name in ("b_0000.nii.gz", "a_0000.nii.gz"):
            (tmp_path / name).touch()
        assert list_cases(tmp_path, ".nii.gz", 1) == [
            {"image": [str(tmp_path / "a_0000.nii.gz")]},
            {"image": [str(tmp_path / "b_0000.nii.gz")]},
        ]

    def test_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"dataset_dir must be a folder of images; .*absent is none"):
            list_cases(tmp_path / "absent", ".nii.gz", 1)

    def test_nothing_in_it(self, tmp_path: Path) -> None:
        (tmp_path / "a.nrrd").touch()
        with pytest.raises(ValueError, match=r"holds no image: names must end in .nii.gz.* with 2 channels"):
            list_cases(tmp_path, ".nii.gz", 2)
