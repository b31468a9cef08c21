from __future__ import annotations

from pathlib import Path

import pytest

from scd_plugin.bridge.runtime.image_list import group_channels, list_cases


class TestGroupChannels:
    def test_channels_of_each_case(self) -> None:
        names = ["b_0001.nii.gz", "a_0000.nii.gz", "b_0000.nii.gz", "a_0001.nii.gz", "notes.txt"]
        assert group_channels(names, ".nii.gz", 2) == {
            "a": ["a_0000.nii.gz", "a_0001.nii.gz"],
            "b": ["b_0000.nii.gz", "b_0001.nii.gz"],
        }

    def test_plain_names_are_cases_of_one_channel(self) -> None:
        assert group_channels(["b.mha", "a.mha", "c.nrrd"], ".mha", 1) == {"a": ["a.mha"], "b": ["b.mha"]}

    def test_plain_names_beside_numbered_ones_are_left_out(self) -> None:
        assert group_channels(["a_0000.mha", "label.mha"], ".mha", 1) == {"a": ["a_0000.mha"]}

    @pytest.mark.parametrize("names", [["a_0000.mha"], ["a_0000.mha", "a_0001.mha", "a_0002.mha"]], ids=["few", "many"])
    def test_wrong_number(self, names: list[str]) -> None:
        with pytest.raises(ValueError, match=r"case a must be the files a_0000.mha, a_0001.mha.*there are a_0000.mha"):
            group_channels(names, ".mha", 2)


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
