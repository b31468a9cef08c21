from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile

from scd_plugin.demo.dataset import configuration_for, hold_out, images_of, prepare_dataset, what_is_left_out


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


class TestOtherLayouts:
    """All that nnU-Net takes."""

    def names(self, folder: Path) -> list[str]:
        return sorted(path.name for path in folder.iterdir())

    def change(self, source: Path, **changes: Any) -> None:
        file = source / "dataset.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    @pytest.mark.parametrize(
        "changes",
        [{"modality": {"0": "MRI"}}, {"training": [], "test": []}, {"tensorImageSize": "3D", "modality": {"0": "MRI"}}],
        ids=lambda changes: " ".join(changes),
    )
    def test_keys_of_the_decathlon_beside_nnunets(self, tmp_path: Path, changes: dict[str, Any]) -> None:
        source = raw_dataset(tmp_path / "Dataset042_Mine")
        self.change(source, **changes)
        assert len(self.names(prepare_dataset(source, tmp_path / "raw", no_command) / "imagesTr")) == 9

    def test_files_that_dataset_json_lists(self, tmp_path: Path) -> None:
        source = raw_dataset(tmp_path / "Dataset042_Mine")
        (source / "imagesTr").rename(source / "elsewhere")
        listed = {
            f"patient {n}": {
                "images": [f"elsewhere/case_{n}_0000.nii.gz"],
                "label": str(source / f"labelsTr/case_{n}.nii.gz"),
            }
            for n in range(9)
        }
        self.change(source, dataset=listed)
        folder = prepare_dataset(source, tmp_path / "raw", no_command)
        assert hold_out(folder) == ["patient 6"]
        assert self.names(folder / "labelsHeldOut") == ["patient 6.nii.gz"]
        assert (folder / "imagesTr" / "patient 0_0000.nii.gz").resolve() == source / "elsewhere" / "case_0_0000.nii.gz"
        assert "dataset" not in json.loads((folder / "dataset.json").read_text())

    def test_tiff_with_its_spacing_beside(self, tmp_path: Path) -> None:
        source = raw_dataset(tmp_path / "Dataset042_Mine")
        for folder in ("imagesTr", "labelsTr"):
            for file in list((source / folder).iterdir()):
                name = file.name.removesuffix(".nii.gz")
                tifffile.imwrite(source / folder / f"{name}.tif", np.zeros((5, 6, 7), np.uint8))
                (source / folder / f"{name.removesuffix('_0000')}.json").write_text('{"spacing": [3, 1, 1]}')
                file.unlink()
        self.change(source, file_ending=".tif")
        assert what_is_left_out(source) == []
        folder = prepare_dataset(source, tmp_path / "raw", no_command)
        assert hold_out(folder) == ["case_6"]
        assert self.names(folder / "imagesHeldOut") == ["case_6.json", "case_6_0000.tif"]
        assert self.names(folder / "labelsHeldOut") == ["case_6.json", "case_6.tif"]
        assert len(self.names(folder / "imagesTr")) == 16
        assert configuration_for(folder) == "3d_fullres"

    @pytest.mark.parametrize("case", ["a b", "ä;*[1]", "x_0001", "$HOME", "two\nlines", "-i"])
    def test_any_name_of_a_case(self, tmp_path: Path, case: str) -> None:
        source = raw_dataset(tmp_path / "Dataset042_Mine", num_cases=7)
        (source / "imagesTr" / "case_6_0000.nii.gz").rename(source / "imagesTr" / f"{case}_0000.nii.gz")
        (source / "labelsTr" / "case_6.nii.gz").rename(source / "labelsTr" / f"{case}.nii.gz")
        folder = prepare_dataset(source, tmp_path / "raw", no_command)
        held = hold_out(folder)
        assert [path.name for path in images_of(held[0], folder / "imagesHeldOut", ".nii.gz")] == [
            f"{held[0]}_0000.nii.gz"
        ]
        assert {*held, *(path.name.removesuffix(".nii.gz") for path in (folder / "labelsTr").iterdir())} >= {case}

    def test_a_link_keeps_its_name(self, tmp_path: Path) -> None:
        raw_dataset(tmp_path / "store")
        (tmp_path / "Dataset042_Mine").symlink_to(tmp_path / "store")
        folder = prepare_dataset(tmp_path / "Dataset042_Mine", tmp_path / "raw", no_command)
        assert folder.name == "Dataset042_Mine"

    @pytest.mark.parametrize("name", ["my_data", "Dataset42_Mine", "Dataset042", "2024", "a b"])
    def test_names_that_nnunet_can_not_read(self, tmp_path: Path, name: str) -> None:
        assert prepare_dataset(raw_dataset(tmp_path / name), tmp_path / "raw", no_command).name == f"Dataset902_{name}"

    @pytest.mark.parametrize("name", ["hippocampus", "Task04_Two_words", "Task_Thing"])
    def test_names_that_nnunets_converter_can_not_read(self, tmp_path: Path, name: str) -> None:
        commands: list[tuple[str, ...]] = []

        def convert(*words: str) -> None:
            commands.append(words)
            (tmp_path / "raw" / "Dataset902_X").mkdir(parents=True)

        prepare_dataset(decathlon(tmp_path / name), tmp_path / "raw", convert)
        task = Path(commands[0][2])
        assert task.name == f"Task902_{name.replace('_', '-')}"
        assert self.names(task) == ["dataset.json", "imagesTr", "imagesTs", "labelsTr"]

    def test_what_is_not_taken_is_counted(self, tmp_path: Path) -> None:
        source = raw_dataset(tmp_path / "Dataset042_Mine", num_cases=7)
        images = source / "imagesTr"
        (images / "notes.txt").touch()
        (images / "._case_1_0000.nii.gz").touch()
        (images / "b_0000.nii.gz").mkdir()
        (images / "c_0000.nii.gz").symlink_to(images / "gone")
        counted = "files of other endings: 1, folders: 1, hidden files: 1, links that lead nowhere: 1"
        assert what_is_left_out(source) == [f"left out of {images}: {counted}"]
        assert len(self.names(prepare_dataset(source, tmp_path / "raw", no_command) / "imagesTr")) == 7


class TestBadData:
    @pytest.mark.parametrize(
        ("gone", "message"),
        [
            ("dataset.json", r"a folder with dataset.json, imagesTr, labelsTr; .*Dataset042_Mine lacks dataset.json$"),
            ("imagesTr", "Dataset042_Mine has a dataset.json, but no folder imagesTr$"),
            ("labelsTr", "Dataset042_Mine has a dataset.json, but no folder labelsTr$"),
            ("labelsTr/case_3.nii.gz", "case case_3 of .*Dataset042_Mine lacks .*labelsTr/case_3.nii.gz; add what"),
        ],
    )
    def test_parts_that_are_missing(self, tmp_path: Path, gone: str, message: str) -> None:
        source = raw_dataset(tmp_path / "Dataset042_Mine")
        (source / gone).rename(tmp_path / "gone")
        with pytest.raises(ValueError, match=message):
            prepare_dataset(source, tmp_path / "raw", no_command)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ('{"labels": ', r"Dataset042_Mine/dataset.json is no JSON: "),
            ("[1, 2]", r"Dataset042_Mine/dataset.json must hold one JSON object; got a list"),
            (
                '{"channel_names": {"0": "MR"}, "file_ending": ".nii.gz"}',
                r"Dataset042_Mine/dataset.json lacks labels ",
            ),
            (
                '{"channel_names": {"0": "MR"}, "labels": {"background": 0}}',
                "dataset.json lacks file_ending .nnU-Net needs channel_names, labels, file_ending; Decathlon needs ",
            ),
            ('{"modality": {"0": "MR"}, "labels": {}}', "dataset.json lacks training .nnU-Net needs"),
            (
                '{"channel_names": {}, "labels": {}, "file_ending": ".nii.gz", "dataset": {"a": '
                '{"images": ["x/a_0000.nii.gz"], "label": "x/a.nii.gz"}}}',
                "case a of .*Dataset042_Mine lacks .*Mine/x/a_0000.nii.gz, .*Mine/x/a.nii.gz; add what is missing",
            ),
        ],
    )
    def test_description(self, tmp_path: Path, text: str, message: str) -> None:
        source = raw_dataset(tmp_path / "Dataset042_Mine")
        (source / "dataset.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            prepare_dataset(source, tmp_path / "raw", no_command)

    def test_task_of_nnunets_first_version(self, tmp_path: Path) -> None:
        source = raw_dataset(tmp_path / "Task004_Mine")
        entries = [{"image": "./imagesTr/case_0.nii.gz", "label": "./labelsTr/case_0.nii.gz"}]
        description = {"modality": {"0": "MR"}, "labels": {"0": "background"}, "training": entries, "test": []}
        (source / "dataset.json").write_text(json.dumps(description))
        command = "nnUNetv2_convert_old_nnUNet_dataset .*/Task004_Mine Dataset004_Mine$"
        with pytest.raises(ValueError, match=rf"Task004_Mine is a task of nnU-Net v1: .*{command}"):
            prepare_dataset(source, tmp_path / "raw", no_command)

    def test_images_that_were_cut_off(self, tmp_path: Path) -> None:
        source = raw_dataset(tmp_path / "Dataset042_Mine")
        for number in (1, 2):
            file = source / "imagesTr" / f"case_{number}_0000.nii"
            sitk.WriteImage(sitk.Image([8, 8, 8], sitk.sitkInt16), str(file))
            file.with_suffix(".nii.gz").write_bytes(gzip.compress(file.read_bytes()[:500]))
        message = r"case_1_0000.nii.gz is cut off: it holds 500 of 1376 bytes.*; so is 1 other, see scd doctor .*Datas"
        with pytest.raises(ValueError, match=message):
            prepare_dataset(source, tmp_path / "raw", no_command)


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
