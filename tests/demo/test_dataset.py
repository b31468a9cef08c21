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


def decathlon(folder: Path) -> Path:
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    description = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "a"}, "training": [], "test": []}
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
        task = decathlon(tmp_path / "Task99_Thing")
        if with_test_images:
            (task / "imagesTs").mkdir()
        commands: list[tuple[str, ...]] = []

        def convert(*words: str) -> None:
            commands.append(words)
            (tmp_path / "raw" / "Dataset902_Thing").mkdir(parents=True)

        folder = prepare_dataset(task, tmp_path / "raw", convert)
        assert folder.name == "Dataset902_Thing"
        assert [words[0] for words in commands] == ["nnUNetv2_convert_MSD_dataset"]
        source = Path(commands[0][2])
        assert source.name == "Task99_Thing"
        assert (source / "imagesTs").is_dir()
        assert (source / "dataset.json").read_text() == (task / "dataset.json").read_text()
        assert (task / "imagesTs").exists() is with_test_images

    @pytest.mark.parametrize("name", ["Dataset027_A-2", "Dataset001_two words"])
    def test_every_name_that_nnunet_takes(self, tmp_path: Path, name: str) -> None:
        folder = prepare_dataset(raw_dataset(tmp_path / name), tmp_path / "raw", no_command)
        assert folder == tmp_path / "raw" / name


class TestBadData:
    @pytest.mark.parametrize(
        ("gone", "message"),
        [
            ("dataset.json", r"a folder with dataset.json, imagesTr, labelsTr; .*Dataset042_Mine lacks dataset.json$"),
            ("imagesTr", "Dataset042_Mine lacks imagesTr$"),
            ("labelsTr", "Dataset042_Mine lacks labelsTr$"),
        ],
    )
    def test_parts_that_are_missing(self, tmp_path: Path, gone: str, message: str) -> None:
        source = raw_dataset(tmp_path / "Dataset042_Mine")
        (source / gone).rename(tmp_path / gone)
        with pytest.raises(ValueError, match=message):
            prepare_dataset(source, tmp_path / "raw", no_command)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ('{"labels": ', r"Dataset042_Mine/dataset.json is no JSON: "),
            ("[1, 2]", r"Dataset042_Mine/dataset.json must hold one JSON object; got a list"),
            (
                '{"channel_names": {"0": "MR"}, "file_ending": ".nii.gz"}',
                r"Dataset042_Mine/dataset.json lacks labels: ",
            ),
            (
                '{"channel_names": {"0": "MR"}, "labels": {"background": 0}}',
                "dataset.json lacks file_ending: .* needs ",
            ),
            (
                '{"modality": {"0": "MR"}, "labels": {}, "training": []}',
                "dataset.json lacks test: .* a Decathlon task ",
            ),
            (
                '{"channel_names": {}, "labels": {}, "file_ending": ".nii.gz", "dataset": {}}',
                "dataset.json lists its files under 'dataset'.* put them in imagesTr and labelsTr",
            ),
        ],
    )
    def test_description(self, tmp_path: Path, text: str, message: str) -> None:
        source = raw_dataset(tmp_path / "Dataset042_Mine")
        (source / "dataset.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            prepare_dataset(source, tmp_path / "raw", no_command)

    def test_images_that_were_cut_off(self, tmp_path: Path) -> None:
        source = raw_dataset(tmp_path / "Dataset042_Mine")
        for name in ("a", "b"):
            file = source / "imagesTr" / f"{name}_0000.nii"
            sitk.WriteImage(sitk.Image([8, 8, 8], sitk.sitkInt16), str(file))
            file.write_bytes(file.read_bytes()[:500])
        message = r"a_0000.nii is cut off: it holds 500 of 1376 bytes.*; so is 1 other, see scd doctor .*Dataset042"
        with pytest.raises(ValueError, match=message):
            prepare_dataset(source, tmp_path / "raw", no_command)

    @pytest.mark.parametrize("name", ["my_data", "Dataset42_Mine", "Dataset042"])
    def test_name_of_a_raw_data_set(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(ValueError, match=rf"data set must be called DatasetNNN_Name for nnU-Net.*rename .*{name}"):
            prepare_dataset(raw_dataset(tmp_path / name), tmp_path / "raw", no_command)

    @pytest.mark.parametrize("name", ["hippocampus", "Task04_Two_words", "Task_Thing"])
    def test_name_of_a_decathlon_task(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(ValueError, match=rf"must be called TaskNN_Name, one underscore in all,.*rename .*{name}"):
            prepare_dataset(decathlon(tmp_path / name), tmp_path / "raw", no_command)


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
