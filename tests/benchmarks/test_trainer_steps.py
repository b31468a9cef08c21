"""Steps a second of trainers: the step of the GPU run, rehearsed."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

pytest.importorskip("nnunetv2")

import trainer_steps


def where(seconds: float) -> SimpleNamespace:
    return SimpleNamespace(dry=True, cuda=False, left=lambda: seconds)


@pytest.fixture(autouse=True)
def _variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())


def test_with_and_without_graphs() -> None:
    rows = list(trainer_steps.trainer_steps(where(60)))
    assert [(row["trainer"], row["cuda_graph"], row["crop"]) for row in rows] == [
        ("nnUNetTrainerSCD_demo", False, "32x32x32"),
        ("nnUNetTrainerSCD_demo", True, "32x32x32"),
    ]
    assert all(row["steps_per_second"] > 0 for row in rows)


def test_nnunets_own_has_no_graphs_and_compiled_comes_last() -> None:
    assert ("nnUNetTrainer", True, False) not in trainer_steps.RUNS
    assert [compiled for *_, compiled in trainer_steps.RUNS] == sorted(run[2] for run in trainer_steps.RUNS)


def test_a_trainer_that_fails_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer_steps, "DRY", (("nnUNetTrainerNobody", False, False),))
    (row,) = trainer_steps.trainer_steps(where(60))
    assert "nnUNetTrainerNobody" in row["error"]


def test_time_is_short() -> None:
    rows = list(trainer_steps.trainer_steps(where(0)))
    assert rows == [{"skipped": "nnUNetTrainerSCD_demo: time is short"}] * 2
