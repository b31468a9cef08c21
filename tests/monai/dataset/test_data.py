"""From labelled folders to data lists and descriptions, and every way in which their files are damaged."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import psutil
import pytest
import SimpleITK as sitk

from scd_plugin.monai import cache_rate, data_lists, describe


class TestDataLists:
    def test_lists(self, volumes: Any, tmp_path: Path) -> None:
        lists = data_lists(str(volumes.nnunet(tmp_path, num_cases=6, channel_names=("T1", "T2"))))
        assert len(lists["training"]) == 4
        assert len(lists["validation"]) == 2
        entry = lists["training"][0]
        assert [Path(path).name for path in entry["image"]] == ["case_0_0000.nii.gz", "case_0_0001.nii.gz"]
        assert Path(entry["label"]).name == "case_0.nii.gz"
        assert entry["case"] == "case_0"

    def test_what_was_trained_on_does_not_validate(self, volumes: Any, tmp_path: Path) -> None:
        folder = str(volumes.plain(tmp_path, num_cases=6))
        training, validation = (
            [entry["case"] for entry in data_lists(folder, fold=1)[part]] for part in ("training", "validation")
        )
        known = {"fold": 1, "seed": 0, "training": training}
        assert [entry["case"] for entry in data_lists(folder, fold=1, trained_on=known)["validation"]] == validation
        with pytest.raises(ValueError, match=r"2 of 2 cases to validate were .* give --fold 1 as in"):
            data_lists(folder, fold=0, trained_on=known)
        known["training"] = [data_lists(folder)["validation"][0]["case"]]
        assert len(data_lists(folder, trained_on=known, skip_trained=True)["validation"]) == 1

    def test_cases_that_the_training_never_had_all_validate(
        self, volumes: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        folder = volumes.plain(tmp_path, num_cases=5)
        known = {"fold": 0, "seed": 0, "training": ["another"]}
        lists = data_lists(folder, trained_on=known)
        assert [len(lists[part]) for part in ("training", "validation")] == [0, 5]
        assert f"none of the 5 cases of {folder} was trained on: all are scored" in caplog.messages
        # a split of one's own goes first
        split = [{"train": [], "val": ["case_2"]}]
        (folder / "splits_final.json").write_text(json.dumps(split))
        lists = data_lists(folder, trained_on=known)
        assert [entry["case"] for entry in lists["validation"]] == ["case_2"]

    def test_one_case_to_score(self, volumes: Any, tmp_path: Path) -> None:
        lists = data_lists(volumes.plain(tmp_path, num_cases=1), trained_on={"fold": 0, "seed": 0, "training": ["a"]})
        assert len(lists["validation"]) == 1

    def test_files_that_change_are_seen(self, volumes: Any, tmp_path: Path) -> None:
        volumes.plain(tmp_path, num_cases=6)
        assert sum(map(len, data_lists(tmp_path).values())) == 6
        for part in ("images", "labels"):
            next((tmp_path / part).iterdir()).unlink()
        volumes.write(tmp_path / "images" / "new.nii.gz", np.zeros(volumes.shape, np.float32))
        assert "new" not in str(data_lists(tmp_path, skip_bad=True))
        volumes.write(tmp_path / "labels" / "new.nii.gz", np.ones(volumes.shape, np.uint8))
        assert "new" in str(data_lists(tmp_path, skip_bad=True))

    def test_nnunets_split(self, volumes: Any, tmp_path: Path) -> None:
        volumes.nnunet(tmp_path)
        split = [{"train": ["case_3", "case_1"], "val": ["case_2"]}]
        (tmp_path / "splits_final.json").write_text(json.dumps(split))
        lists = data_lists(str(tmp_path))
        assert [Path(entry["label"]).name for entry in lists["training"]] == ["case_3.nii.gz", "case_1.nii.gz"]

    def test_more_processes_than_cases(self, volumes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        volumes.plain(tmp_path)
        monkeypatch.setenv("WORLD_SIZE", "2")
        with pytest.raises(ValueError, match=r"2 processes need at least 2 cases for validation; fold 0 of .* has 1: "):
            data_lists(str(tmp_path))

    def test_other_channels_than_the_network(self, volumes: Any, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"case_0.nii.gz has 1 channels where 4 are expected \(and 3 more"):
            data_lists(str(volumes.plain(tmp_path)), channels=4, labels=range(4))


def change(path: Path, how: Callable[[sitk.Image], None]) -> None:
    image = sitk.ReadImage(str(path))
    how(image)
    sitk.WriteImage(image, str(path))


def two_affines(path: Path) -> None:
    """Turn the sform by a quarter, and leave the qform."""
    image = nib.load(path)
    turned = image.affine @ np.array([[0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    whole = nib.Nifti1Image(np.asarray(image.dataobj).copy(), image.affine)
    whole.set_qform(image.affine, 1)
    whole.set_sform(turned, 1)
    nib.save(whole, path)


DAMAGE = {
    "label of another size": (
        lambda v, r: v.write(r / "labels" / "case_1.nii.gz", np.zeros((4, 5, 6), np.uint8)),
        r"image .*images/case_1.nii.gz has 24x22x20 voxels, its label .*labels/case_1.nii.gz 6x5x4",
    ),
    "label of another spacing": (
        lambda v, r: v.write(r / "labels" / "case_1.nii.gz", np.zeros(v.shape, np.uint8), spacing=(1, 1, 2)),
        r"case_1.nii.gz and its label .* differ in spacing: \(1, 1, 1\) and \(1, 1, 2\)",
    ),
    "unreadable image": (
        lambda _, r: (r / "images" / "case_1.nii.gz").write_bytes(b"not an image"),
        r"case_1.nii.gz can't be read as an image: ",
    ),
    "cut off label": (
        lambda _, r: (r / "labels" / "case_1.nii.gz").write_bytes((r / "labels" / "case_1.nii.gz").read_bytes()[:150]),
        r"labels/case_1.nii.gz is cut off: it holds \d+ of 10912 bytes \(unpacked\); copy or download it again",
    ),
    "cut off image": (
        lambda _, r: (r / "images" / "case_1.nii.gz").write_bytes((r / "images" / "case_1.nii.gz").read_bytes()[:9000]),
        r"images/case_1.nii.gz is cut off: it holds \d+ of 42592 bytes",
    ),
    "more channels than the others": (
        lambda v, r: v.write(r / "images" / "case_1.nii.gz", np.zeros((*v.shape, 3), np.float32), channels=True),
        r"case_1.nii.gz has 3 channels where 1 are expected",
    ),
    "label of another origin": (
        lambda _, r: change(r / "labels" / "case_1.nii.gz", lambda label: label.SetOrigin((0.0, 0.0, 7.0))),
        r"case_1.nii.gz and its label .* differ in origin: \(0, 0, 0\) and \(0, 0, 7\)",
    ),
    "label of another direction": (
        lambda _, r: change(
            r / "labels" / "case_1.nii.gz", lambda label: label.SetDirection((0, 1, 0, -1, 0, 0, 0, 0, 1))
        ),
        r"case_1.nii.gz and its label .* differ in direction: \(1, 0, 0, 0, 1, 0, 0, 0, 1\) and \(0, 1, 0, -1, 0",
    ),
    "two affines": (
        lambda _, r: two_affines(r / "images" / "case_1.nii.gz"),
        r"differ in direction: .* \(case_1.nii.gz holds two affines that differ, qform and sform: make them the same\)",
    ),
    "missing label": (
        lambda _, r: (r / "labels" / "case_1.nii.gz").unlink(),
        r"image .*images/case_1.nii.gz has no label in .*labels: a label bears the image's name",
    ),
    "missing image": (
        lambda _, r: (r / "images" / "case_1.nii.gz").unlink(),
        r"label .*labels/case_1.nii.gz has no image in .*images",
    ),
    "flat": (
        lambda v, r: [
            v.write(r / part / "case_1.nii.gz", np.zeros((22, 24), np.uint8)) for part in ("images", "labels")
        ],
        r"image .*case_1.nii.gz is flat; this bundle takes volumes, nnU-Net",
    ),
    "not a number": (
        lambda v, r: (
            (r / "images" / "case_1.nii.gz").unlink(),
            v.write(r / "images" / "case_1.nrrd", np.full(v.shape, np.nan, np.float32)),
        ),
        r"image .*case_1.nrrd holds NaN or infinite voxels: replace them",
    ),
    "not a number in NIfTI": (
        lambda v, r: v.write(r / "images" / "case_1.nii.gz", np.full(v.shape, np.inf, np.float32)),
        r"images/case_1.nii.gz holds NaN or infinite voxels: replace them",
    ),
    "huge": (
        lambda v, r: (
            (r / "images" / "case_1.nii.gz").unlink(),
            v.write(r / "images" / "case_1.mha", np.full(v.shape, -1e30, np.float32)),
        ),
        r"image .*case_1.mha holds voxels of up to 1e\+30, beyond 1e\+14: replace them",
    ),
    "complex": (
        lambda v, r: v.write(r / "images" / "case_1.nii.gz", np.ones(v.shape, np.complex64)),
        r"images/case_1.nii.gz holds complex numbers; an image has one real number a voxel",
    ),
    "label of NaN": (
        lambda v, r: v.write(r / "labels" / "case_1.nii.gz", np.full(v.shape, np.nan, np.float32)),
        r"labels/case_1.nii.gz holds NaN or infinite voxels",
    ),
    "label just below a whole number": (
        lambda v, r: v.write(r / "labels" / "case_1.nii.gz", np.full(v.shape, 0.9999999, np.float64)),
        r"label .*labels/case_1.nii.gz holds 0.9999999, which is no whole number: round its values",
    ),
    "negative label": (
        lambda v, r: v.write(r / "labels" / "case_1.nii.gz", np.full(v.shape, -1, np.int16)),
        r"label .*labels/case_1.nii.gz holds the value -1; labels are whole numbers from 0",
    ),
    "fourth axis": (
        lambda v, r: v.write(r / "images" / "case_1.nii.gz", np.zeros((2, *v.shape), np.float32)),
        r"case_1.nii.gz has 2 channels where 1 are expected",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
class TestDamagedFiles:
    def test_named_before_training(self, volumes: Any, tmp_path: Path, damage: str) -> None:
        do, sentence = DAMAGE[damage]
        do(volumes, volumes.plain(tmp_path))
        with pytest.raises(ValueError, match=sentence) as caught:
            describe(str(tmp_path))
        assert str(caught.value).endswith("or leave such cases out with --skip_bad True")
        assert "\n" not in str(caught.value)

    def test_left_out_where_asked_for(
        self, volumes: Any, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        do, _ = DAMAGE[damage]
        do(volumes, volumes.plain(tmp_path))
        with caplog.at_level(logging.WARNING):
            lists = data_lists(str(tmp_path), skip_bad=True)
        names = {Path(entry["label"]).name for part in lists.values() for entry in part}
        assert names == {"case_0.nii.gz", "case_2.nii.gz", "case_3.nii.gz"}
        assert len(caplog.messages) == 1
        assert caplog.messages[0].startswith("left out: case case_1: ")


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
@pytest.mark.parametrize("layout", ["plain", "nnU-Net"])
@pytest.mark.parametrize("part", ["image", "label"])
def test_cut_off_file_whose_header_is_whole(volumes: Any, tmp_path: Path, ending: str, layout: str, part: str) -> None:
    """NRRD and MHA tell their size nowhere that is cheap to read; CT's voxels are needed for the window too."""
    if layout == "plain":
        volumes.plain(tmp_path, ending=ending)
        file = tmp_path / f"{part}s" / f"case_1{ending}"
    else:
        volumes.nnunet(tmp_path, channel_names=("CT",), file_ending=ending)
        for path in tmp_path.glob("*Tr/*.nii.gz"):
            sitk.WriteImage(sitk.ReadImage(str(path)), str(path).replace(".nii.gz", ending))
            path.unlink()
        file = tmp_path / f"{part}sTr" / ("case_1_0000" if part == "image" else "case_1")
        file = file.with_name(file.name + ending)
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
    sentence = rf"the voxels of .*/{file.name} can't be read: the file is cut off or damaged; copy or download it again"
    with pytest.raises(ValueError, match=sentence) as caught:
        describe(str(tmp_path))
    assert "\n" not in str(caught.value)
    lists = data_lists(str(tmp_path), skip_bad=True)
    assert sum(map(len, lists.values())) == 3


def test_missing_channel_can_be_left_out(volumes: Any, tmp_path: Path) -> None:
    whole = volumes.nnunet(tmp_path / "whole", channel_names=("T1", "T2"))
    part = volumes.nnunet(tmp_path / "part", channel_names=("T1", "T2"))
    (part / "imagesTr" / "case_1_0001.nii.gz").unlink()
    with pytest.raises(ValueError, match=r"case case_1 has 1 of the 2 channels .*with --skip_bad True"):
        data_lists(str(part))

    def labels(folder: Path, **options: Any) -> dict[str, list[str]]:
        lists = data_lists(str(folder), **options)
        return {name: [Path(entry["label"]).name for entry in entries] for name, entries in lists.items()}

    expected = {name: [label for label in names if "_1" not in label] for name, names in labels(whole).items()}
    assert labels(part, skip_bad=True) == expected, "the others stay in their folds"


def test_ct_without_any_label(volumes: Any, tmp_path: Path) -> None:
    volumes.nnunet(tmp_path, channel_names=("CT",))
    for path in (tmp_path / "labelsTr").iterdir():
        volumes.write(path, np.zeros(volumes.shape, np.uint8))
    with pytest.raises(ValueError, match=r"labels of 4 cases, of which .*case_0.nii.gz is the first, hold nothing but"):
        describe(str(tmp_path))


def test_unexpected_label_value(volumes: Any, tmp_path: Path) -> None:
    folder = volumes.nnunet(tmp_path, labels={"background": 0, "one": 1})
    with pytest.raises(ValueError, match=r"case_0.nii.gz holds the values \(2\), which are not among"):
        describe(str(folder))


def test_nothing_left(volumes: Any, tmp_path: Path) -> None:
    folder = volumes.nnunet(tmp_path, labels={"background": 0, "one": 1})
    with pytest.raises(ValueError, match=r"no case of .* can be used; the first: label "):
        describe(str(folder), skip_bad=True)


class TestCacheRate:
    @pytest.fixture
    def entries(self, volumes: Any, tmp_path: Path) -> list[dict[str, Any]]:
        return data_lists(str(volumes.plain(tmp_path)))["training"]

    def test_all_fits(self, entries: list[dict[str, Any]]) -> None:
        assert cache_rate(entries) == 1.0
        assert cache_rate([]) == 0.0

    def test_half_fits(self, entries: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
        voxels = 20 * 22 * 24
        # image and label as float32, half of them, in half of the free memory
        available = len(entries) * voxels * 4 * 2
        monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": available}))
        assert cache_rate(entries, copies=1) == pytest.approx(0.5)
        assert cache_rate(entries, copies=2) == pytest.approx(0.25)
        assert cache_rate(entries, copies=1, spacing=(1, 1, 2)) == pytest.approx(1.0)
        monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
        assert cache_rate(entries) == pytest.approx(0.125)
