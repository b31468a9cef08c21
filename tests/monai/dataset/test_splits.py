"""Splits: deterministic, disjoint, complete, and nnU-Net's where there is one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scd_plugin.monai.dataset.splits import find_splits_file, split_names

NAMES = [f"case_{i}" for i in range(12)]


def test_every_case_validates_once() -> None:
    validated = []
    for fold in range(5):
        training, validation = split_names(NAMES, fold=fold)
        assert sorted(training + validation) == sorted(NAMES)
        validated += validation
    assert sorted(validated) == sorted(NAMES)


def test_same_on_every_machine_and_in_every_order() -> None:
    assert split_names(NAMES, fold=1, seed=3)[1] == ["case_11", "case_2", "case_5"]
    assert split_names(NAMES[::-1], fold=1, seed=3)[1] == ["case_11", "case_2", "case_5"]
    assert split_names(NAMES, fold=1, seed=4)[1] != ["case_11", "case_2", "case_5"]


def test_nnunets_split_wins(tmp_path: Path) -> None:
    file = tmp_path / "splits_final.json"
    file.write_text(json.dumps([{"train": ["case_1"], "val": ["case_2"]}]))
    assert find_splits_file(tmp_path) == file
    assert split_names(NAMES, splits_file=file) == (["case_1"], ["case_2"])
    with pytest.raises(ValueError, match=r"fold must be in \[0, 0\], the folds of .*splits_final.json; got 1"):
        split_names(NAMES, fold=1, splits_file=file)
    with pytest.raises(ValueError, match=r"names 1 cases that the data set does not have: case_2"):
        split_names(["case_1"], splits_file=file)


def test_nnunets_split_in_its_preprocessed_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "preprocessed" / "Dataset001_X" / "splits_final.json"
    file.parent.mkdir(parents=True)
    file.write_text("[]")
    (tmp_path / "raw" / "Dataset001_X").mkdir(parents=True)
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    assert find_splits_file(tmp_path / "raw" / "Dataset001_X") == file
    assert find_splits_file(tmp_path / "raw") is None


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("[", r"splits_final.json is no JSON: "),
        ("{}", r"splits_final.json must hold one JSON list; got a dict"),
        ('[{"train": ["case_1"]}]', r"fold 0 of .*splits_final.json must hold the lists of names train and val; got"),
        ("[7]", r"fold 0 of .*splits_final.json must hold the lists of names train and val; got 7"),
    ],
    ids=["no JSON", "object", "no val", "number"],
)
def test_broken_file(tmp_path: Path, content: str, sentence: str) -> None:
    file = tmp_path / "splits_final.json"
    file.write_text(content)
    with pytest.raises(ValueError, match=sentence):
        split_names(NAMES, splits_file=file)


@pytest.mark.parametrize("fold", [-1, 5])
def test_no_such_fold(fold: int) -> None:
    with pytest.raises(ValueError, match=rf"fold must be in \[0, 4\]; got {fold}"):
        split_names(NAMES, fold=fold)


@pytest.mark.parametrize("fold", [1.0, "all", None], ids=str)
def test_fold_of_another_kind(fold: Any) -> None:
    with pytest.raises(ValueError, match=rf"^fold must be a whole number from 0; got {fold!r}$"):
        split_names(NAMES, fold=fold)


def test_too_few_cases() -> None:
    assert split_names(["a", "b"], fold=4) == (["a"], ["b"]) or split_names(["a", "b"], fold=4) == (["b"], ["a"])
    with pytest.raises(ValueError, match="at least 2 labelled cases, one of them to validate; got 1"):
        split_names(["a"])
