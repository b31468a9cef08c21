from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from scd_plugin.demo.dataset import configuration_for, hold_out, prepare_dataset


def no_command(*words: str) -> None:
    pytest.fail(f"ran {words}")


def raw_dataset(folder: Path, num_cases: int = 9, size: tuple[int, ...] = (4, 5, 6)) -> Path:
    for part, ending in (("imagesTr", "_0000.nii.gz"), ("labelsTr", ".nii.gz")):
        (folder / part).mkdir(parents=True)
        for number in range(num_cases):
            volume = sitk.GetImageFromArray(np.zeros(size, dtype=np.uint8))
            sitk.WriteImage(volume, str(folder / part / f"case_{number}{ending}"))
    description = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "a": 1}, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


class TestPrepare:
    def test_raw_data_set_is_linked_not_changed(self, tmp_path: Path) -> None:
        source = raw_dataset(tmp_path / "Dataset042_Mine")
        folder = prepare_dataset(source, tmp_path / "raw", no_command)
        hold_out(folder)
        assert folder == tmp_path / "raw" / "Dataset042_Mine"
        assert len(list((source / "imagesTr").iterdir())) == 9
        assert len(list((folder / "imagesTr").iterdir())) == 8

    @pytest.mark.parametrize("with_test_images", [True, False])
    def test_decathlon_task_goes_through_nnunets_converter(self, tmp_path: Path, with_test_images: bool) -> None:
        (tmp_path / "Task99_Thing" / "imagesTr").mkdir(parents=True)
        if with_test_images:
            (tmp_path / "Task99_Thing" / "imagesTs").mkdir()
        (tmp_path / "Task99_Thing" / "dataset.json").write_text('{"modality": {"0": "CT"}}')
        commands: list[tuple[str, ...]] = []

        def convert(*words: str) -> None:
            commands.append(words)
            (tmp_path / "raw" / "Dataset902_Thing").mkdir(parents=True)

        folder = prepare_dataset(tmp_path / "Task99_Thing", tmp_path / "raw", convert)
        assert folder.name == "Dataset902_Thing"
        assert [words[0] for words in commands] == ["nnUNetv2_convert_MSD_dataset"]
        source = Path(commands[0][2])
        assert source.name == "Task99_Thing"
        assert (source / "imagesTs").is_dir()
        assert (source / "dataset.json").read_text() == '{"modality": {"0": "CT"}}'
        assert (tmp_path / "Task99_Thing" / "imagesTs").exists() is with_test_images

    def test_other_folders_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"a folder with dataset.json and imagesTr; .* is not"):
            prepare_dataset(tmp_path, tmp_path / "raw", no_command)
        wrong_name = raw_dataset(tmp_path / "my_data")
        with pytest.raises(ValueError, match=r"must be called DatasetNNN_Name .*my_data"):
            prepare_dataset(wrong_name, tmp_path / "raw", no_command)


class TestHoldOut:
    def test_every_seventh_case_moves(self, tmp_path: Path) -> None:
        folder = raw_dataset(tmp_path / "Dataset001_A", num_cases=15)
        held = hold_out(folder)
        # cases in the order of their names: case_0, case_1, case_10, ...
        assert held == ["case_14", "case_8"]
        assert sorted(path.name for path in (folder / "imagesHeldOut").iterdir()) == [
            "case_14_0000.nii.gz",
            "case_8_0000.nii.gz",
        ]
        assert len(list((folder / "labelsTr").iterdir())) == 13
        assert json.loads((folder / "dataset.json").read_text())["numTraining"] == 13

    def test_too_few_cases(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"at least 7 labelled cases.* has 6"):
            hold_out(raw_dataset(tmp_path / "Dataset001_A", num_cases=6))


@pytest.mark.parametrize(("size", "configuration"), [((4, 5, 6), "3d_fullres"), ((1, 5, 6), "2d"), ((5, 6), "2d")])
def test_configuration(tmp_path: Path, size: tuple[int, ...], configuration: str) -> None:
    assert configuration_for(raw_dataset(tmp_path / "Dataset001_A", 1, size)) == configuration
