"""Folders of every layout, and the ways in which they are wrong. No image is opened here: empty files do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scd_plugin.monai.dataset.labelled_folders import read_dataset, without_ending


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def nnunet(root: Path, **changes: Any) -> Path:
    """Two cases of two channels."""
    for case in ("a", "b"):
        touch(root / "labelsTr" / f"{case}.nii.gz", *(root / "imagesTr" / f"{case}_000{i}.nii.gz" for i in range(2)))
    description = {
        "channel_names": {"0": "CT", "1": "PET"},
        "labels": {"background": 0, "liver": 1, "tumour": 2},
        "numTraining": 2,
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(description | changes))
    return root


def decathlon(root: Path) -> Path:
    touch(root / "imagesTr" / "a.nii.gz", root / "labelsTr" / "a.nii.gz")
    description = {
        "modality": {"0": "FLAIR", "1": "T1w"},
        "labels": {"0": "background", "1": "edema"},
        "training": [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}],
    }
    (root / "dataset.json").write_text(json.dumps(description))
    return root


class TestLayouts:
    def test_nnunet(self, tmp_path: Path) -> None:
        dataset = read_dataset(nnunet(tmp_path))
        assert dataset.layout == "nnU-Net"
        assert dataset.channel_names == ("CT", "PET")
        assert dataset.labels == {"liver": (1,), "tumour": (2,)}
        assert [case.name for case in dataset.cases] == ["a", "b"]
        assert [path.name for path in dataset.cases[0].images] == ["a_0000.nii.gz", "a_0001.nii.gz"]
        assert dataset.regions_order == ()

    @pytest.mark.parametrize(
        "changes",
        [{"training": []}, {"modality": {"0": "MRI"}}, {"training": [{"image": "x"}], "test": [], "modality": {}}],
        ids=" ".join,
    )
    def test_nnunet_with_keys_of_the_decathlon(self, tmp_path: Path, changes: dict[str, Any]) -> None:
        dataset = read_dataset(nnunet(tmp_path, **changes))
        assert dataset.layout == "nnU-Net"
        assert dataset.channel_names == ("CT", "PET")

    def test_nnunet_regions_and_ignore_label(self, tmp_path: Path) -> None:
        labels = {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}
        dataset = read_dataset(nnunet(tmp_path, labels=labels, regions_class_order=[1, 2]))
        assert dataset.labels == {"whole": (1, 2), "core": (2,)}
        assert dataset.regions_order == (1, 2)
        assert dataset.ignore_label == 3

    def test_labels_come_by_their_values(self, tmp_path: Path) -> None:
        """As the network's channels do, whatever the order in the file is."""
        labels = {"background": 0, "vessel": 10, "tumour": 2, "ignore": 11, "liver": 1}
        dataset = read_dataset(nnunet(tmp_path, labels=labels))
        assert list(dataset.labels.items()) == [("liver", (1,)), ("tumour", (2,)), ("vessel", (10,))]

    def test_regions_stay_in_their_order(self, tmp_path: Path) -> None:
        """The network's channels are in it; two regions may be one value."""
        labels = {"background": 0, "core": 2, "whole": [1, 2], "middle": 2}
        dataset = read_dataset(nnunet(tmp_path, labels=labels, regions_class_order=[2, 1, 2]))
        assert list(dataset.labels.items()) == [("core", (2,)), ("whole", (1, 2)), ("middle", (2,))]

    def test_nnunet_files_elsewhere(self, tmp_path: Path) -> None:
        touch(tmp_path / "far" / "x.nii.gz", tmp_path / "far" / "y.nii.gz", tmp_path / "far" / "label.nii.gz")
        files = {"case": {"images": ["../far/x.nii.gz", "../far/y.nii.gz"], "label": "../far/label.nii.gz"}}
        dataset = read_dataset(nnunet(tmp_path / "set", dataset=files))
        assert [case.name for case in dataset.cases] == ["case"]

    def test_decathlon(self, tmp_path: Path) -> None:
        dataset = read_dataset(decathlon(tmp_path))
        assert dataset.layout == "Decathlon"
        assert dataset.channel_names == ("FLAIR", "T1w")
        assert dataset.labels == {"edema": (1,)}
        assert [path.name for path in dataset.cases[0].images] == ["a.nii.gz"]

    def test_plain_with_spaces_and_other_letters(self, tmp_path: Path) -> None:
        root = tmp_path / "Bilder für Änne"
        touch(root / "images" / "fall ä 1.mha", root / "labels" / "fall ä 1.nrrd", root / "images" / ".DS_Store")
        dataset = read_dataset(root)
        assert dataset.layout == "plain"
        assert dataset.cases[0].name == "fall ä 1"
        assert dataset.labels == {}

    def test_plain_with_numbered_channels_and_numbered_names(self, tmp_path: Path) -> None:
        touch(*(tmp_path / "images" / f"a_000{i}.nii.gz" for i in range(2)), tmp_path / "labels" / "a.nii.gz")
        touch(tmp_path / "images" / "scan_2024.nii.gz", tmp_path / "labels" / "scan_2024.nii.gz")
        cases = {case.name: len(case.images) for case in read_dataset(tmp_path).cases}
        assert cases == {"a": 2, "scan_2024": 1}


class TestIncompleteCases:
    """They are told apart, and the others stay."""

    def problem(self, root: Path) -> str:
        dataset = read_dataset(root)
        assert [case.name for case in dataset.cases] == ["a"]
        assert list(dataset.problems) == ["b"]
        return dataset.problems["b"]

    def test_image_without_label(self, tmp_path: Path) -> None:
        (nnunet(tmp_path) / "labelsTr" / "b.nii.gz").unlink()
        sentence = f"image {tmp_path}/imagesTr/b_0000.nii.gz has no label in {tmp_path}/labelsTr: a label bears "
        assert self.problem(tmp_path).startswith(sentence)

    def test_label_without_image(self, tmp_path: Path) -> None:
        touch(tmp_path / "images" / "a.nii", tmp_path / "labels" / "a.nii", tmp_path / "labels" / "b.nii")
        assert self.problem(tmp_path) == f"label {tmp_path}/labels/b.nii has no image in {tmp_path}/images"

    def test_missing_channel(self, tmp_path: Path) -> None:
        (nnunet(tmp_path) / "imagesTr" / "b_0001.nii.gz").unlink()
        sentence = f"case b has 1 of the 2 channels that {tmp_path}/dataset.json names: b_0000.nii.gz"
        assert self.problem(tmp_path) == sentence

    @pytest.mark.parametrize("part", ["images", "labels"])
    def test_two_files_of_one_name(self, tmp_path: Path, part: str) -> None:
        for name in ("a", "b"):
            touch(tmp_path / "images" / f"{name}.nii", tmp_path / "labels" / f"{name}.nii")
        touch(tmp_path / part / "b.mha")
        sentence = f"{tmp_path}/{part}/b.mha and b.nii are two files of one name, and nothing says which to take"
        assert self.problem(tmp_path) == sentence

    def test_listed_file_that_is_not_there(self, tmp_path: Path) -> None:
        entries = [{"image": f"imagesTr/{name}.nii.gz", "label": f"labelsTr/{name}.nii.gz"} for name in "ab"]
        description = json.loads((decathlon(tmp_path) / "dataset.json").read_text())
        (tmp_path / "dataset.json").write_text(json.dumps({**description, "training": entries}))
        missing = f"{tmp_path}/imagesTr/b.nii.gz, {tmp_path}/labelsTr/b.nii.gz"
        assert self.problem(tmp_path) == f"case b lacks files that {tmp_path}/dataset.json names: {missing}"

    def test_listed_case_without_label(self, tmp_path: Path) -> None:
        files = {"a": {"images": ["imagesTr/a_0000.nii.gz"] * 2, "label": "labelsTr/a.nii.gz"}, "b": {"images": []}}
        assert self.problem(nnunet(tmp_path, dataset=files)).endswith(
            "dataset.json must name its images and its label; got {'images': []}"
        )


class TestWrong:
    def test_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"dataset_dir must be a folder; .*nothing is none.*--dataset_dir"):
            read_dataset(tmp_path / "nothing")

    def test_empty_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"is no data set: it must be an nnU-Net raw data set or a Decathlon task"):
            read_dataset(tmp_path)

    def test_no_image(self, tmp_path: Path) -> None:
        (tmp_path / "images").mkdir()
        (tmp_path / "labels").mkdir()
        with pytest.raises(ValueError, match=r"\(plain\) holds no labelled image with an ending of .nii.gz"):
            read_dataset(tmp_path)

    def test_no_complete_case(self, tmp_path: Path) -> None:
        (decathlon(tmp_path) / "labelsTr" / "a.nii.gz").unlink()
        with pytest.raises(ValueError, match=r"no case of .* \(Decathlon\) can be used; the first: case a lacks files"):
            read_dataset(tmp_path)

    def test_damaged_json(self, tmp_path: Path) -> None:
        (tmp_path / "dataset.json").write_text("{")
        with pytest.raises(ValueError, match=r"dataset.json is no JSON: "):
            read_dataset(tmp_path)

    def test_json_of_something_else(self, tmp_path: Path) -> None:
        (tmp_path / "dataset.json").write_text("{}")
        with pytest.raises(ValueError, match=r"lacks modality, labels, training \(nnU-Net needs channel_names, lab"):
            read_dataset(tmp_path)

    @pytest.mark.parametrize("numbers", [(1, 2), (0, 2), (2, 3)], ids=str)
    def test_channels_with_other_numbers(self, tmp_path: Path, numbers: tuple[int, int]) -> None:
        folder = nnunet(tmp_path)
        files = [(folder / "imagesTr" / f"a_000{i}.nii.gz").rename(folder / f"{i}") for i in range(2)]
        for number, file in zip(numbers, files):
            file.rename(folder / "imagesTr" / f"a_{number:04d}.nii.gz")
        problem = read_dataset(folder).problems["a"]
        there = ", ".join(f"a_{number:04d}.nii.gz" for number in numbers)
        wanted = "the channels of case a must be numbered a_0000, _0001, ... without a gap"
        assert problem == f"{wanted}; there are {there}"

    def test_task_of_nnunets_first_version(self, tmp_path: Path) -> None:
        touch(*(tmp_path / "Task07_X" / part for part in ("imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz")))
        entries = [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}]
        description = {"modality": {"0": "MR"}, "labels": {"0": "background", "1": "x"}, "training": entries}
        (tmp_path / "Task07_X" / "dataset.json").write_text(json.dumps(description))
        with pytest.raises(ValueError, match=r"nnU-Net v1: .*convert_old_nnUNet_dataset .*Task07_X Dataset007_X$"):
            read_dataset(tmp_path / "Task07_X")

    def test_two_listed_images_of_one_name(self, tmp_path: Path) -> None:
        """As where each case has a folder of its own."""
        entries = [{"image": f"./{case}/ct.nii.gz", "label": f"./{case}/seg.nii.gz"} for case in "abc"]
        file = decathlon(tmp_path) / "dataset.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "training": entries}))
        sentence = (
            r"^training in .*dataset.json lists ./a/ct.nii.gz and ./b/ct.nii.gz, two images of one name, by which "
            r"cases are told apart: rename one of them$"
        )
        with pytest.raises(ValueError, match=sentence):
            read_dataset(tmp_path)

    def test_regions_without_order(self, tmp_path: Path) -> None:
        labels = {"background": 0, "whole": [1, 2], "core": 2}
        with pytest.raises(ValueError, match=r"must hold one value for each of the 2 regions; got \[\]"):
            read_dataset(nnunet(tmp_path, labels=labels))

    @pytest.mark.parametrize(
        ("changes", "sentence"),
        [
            ({"channel_names": ["CT", "PET"]}, r"channel_names in .*dataset.json must be an object of .*'PET'\]"),
            (
                {"channel_names": {"a": "CT"}},
                r"a key of channel_names in .*json must be a whole number from 0; got 'a'",
            ),
            ({"labels": ["background", "liver"]}, r"labels in .*dataset.json must be an object of names and numbers"),
            ({"labels": {"liver": "x"}}, r"label liver in .*dataset.json must be a whole number from 0; got 'x'"),
            ({"labels": {"liver": 1.5}}, r"label liver in .*dataset.json must be a whole number from 0; got 1.5"),
            ({"labels": {"liver": 2**24 + 1}}, r"label liver in .*json must be at most 16777216, .*; got 16777217"),
            (
                {"labels": {"liver": 1, "tumour": 1}},
                r"labels liver and tumour in .*json have one value, 1: give each label a value of its own",
            ),
            ({"labels": {"liver": -1}}, r"label liver in .*dataset.json must be a whole number from 0; got -1"),
            (
                {"labels": {"all": [1, 2], "liver": 1}, "regions_class_order": ["one", 2]},
                r"regions_class_order in .*dataset.json must be a whole number from 0; got 'one'",
            ),
            ({"dataset": ["a"]}, r"dataset in .*dataset.json must be an object of cases; got \['a'\]"),
            (
                {"channel_names": None, "training": ["a.nii.gz"]},
                r"training in .*dataset.json must be a list of .*got \['a.nii.gz'\]",
            ),
            ({"file_ending": ".png"}, r"has the file_ending .png; bundles read .nii.gz, .*with nnU-Net"),
            ({"file_ending": None}, r"dataset.json lacks file_ending"),
        ],
        ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
    )
    def test_malformed(self, tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
        if "training" in changes:
            # a Decathlon task
            others = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "liver"}, "file_ending": None}
            changes = {**others, **changes}
        folder = nnunet(tmp_path, **changes)
        file = folder / "dataset.json"
        given = {key: value for key, value in json.loads(file.read_text()).items() if value is not None}
        file.write_text(json.dumps(given))
        with pytest.raises(ValueError, match=sentence) as caught:
            read_dataset(folder)
        assert "\n" not in str(caught.value)

    def test_background_alone(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"names no label besides background"):
            read_dataset(nnunet(tmp_path, labels={"background": 0}))


@pytest.mark.parametrize(
    ("name", "stem"), [("a.nii.gz", "a"), ("a.b.nii", "a.b"), ("A.NRRD", "A"), ("x.tif", "x")], ids=str
)
def test_without_ending(name: str, stem: str) -> None:
    assert without_ending(Path(name)) == stem
