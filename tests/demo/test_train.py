"""`scd train`: which of nnU-Net's commands it runs, how it goes on, and what it refuses."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scd_plugin.demo import session as demo_session
from scd_plugin.demo.train import STATE, Training, train
from scd_plugin.report import write as report

PLANNED = "nnUNetv2_plan_and_preprocess -d 27 -c 3d_fullres --verify_dataset_integrity -np 2 -npfp 2"
TRAINED = "nnUNetv2_train 27 3d_fullres 0 -tr {} -device cpu"


class Commands:
    """Takes nnU-Net's commands; a training leaves a checkpoint, and a summary unless it is stopped."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.environment: dict[str, str] = {}
        self.stopped = False

    def __call__(self, words: list[str], environment: dict[str, str]) -> None:
        self.ran.append(" ".join([Path(words[0]).name, *words[1:]]))
        self.environment = environment
        if Path(words[0]).name == "nnUNetv2_train":
            trainer = words[words.index("-tr") + 1]
            results = Path(environment["nnUNet_results"]) / "Dataset027_A" / f"{trainer}__nnUNetPlans__3d_fullres"
            (results / "fold_0" / "validation").mkdir(parents=True, exist_ok=True)
            (results / "fold_0" / "checkpoint_latest.pth").touch()
            if self.stopped:
                raise subprocess.CalledProcessError(1, words)
            summary = {"mean": {"1": {"Dice": 0.9}}, "foreground_mean": {"Dice": 0.9}, "metric_per_case": [{}]}
            (results / "fold_0" / "validation" / "summary.json").write_text(json.dumps(summary))


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Commands:
    commands = Commands()
    monkeypatch.setattr(demo_session, "run_program", commands)
    monkeypatch.setattr(report, "write_report", lambda _, page, **__: report.Written(page, 1, 1))
    return commands


@pytest.fixture
def data(tmp_path: Path, volumes: Any) -> Path:
    folder: Path = volumes.nnunet(tmp_path / "Dataset027_A", num_cases=6)
    return folder


def test_whole_training(data: Path, tmp_path: Path, commands: Commands, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*")}
    fold = train(Training(data, "small-fast"), tmp_path / "out", device="cpu")
    trainer = "nnUNetTrainerSCD_small_fast"
    assert commands.ran == [PLANNED, TRAINED.format(trainer)]
    assert fold.parts[-2:] == (f"{trainer}__nnUNetPlans__3d_fullres", "fold_0")
    assert "nnUNet_extTrainer" not in commands.environment
    assert {path: path.stat().st_mtime_ns for path in data.rglob("*")} == before
    printed = capsys.readouterr().out
    assert "0.900" in printed
    assert f"next: scd predict -i IMAGES -o LABEL_MAPS -m {fold.parent}\n" in printed


def test_short_trial_has_a_trainer_of_its_own(
    data: Path, tmp_path: Path, commands: Commands, capsys: pytest.CaptureFixture[str]
) -> None:
    fold = train(Training(data, "base", epochs=5, iterations=20), tmp_path / "out", device="cpu")
    assert fold.parent.name == "nnUNetTrainerSCD_trial__nnUNetPlans__3d_fullres"
    assert commands.ran[-1] == TRAINED.format("nnUNetTrainerSCD_trial")
    own = Path(commands.environment["nnUNet_extTrainer"]) / "trial.py"
    trainer = runpy.run_path(str(own))["nnUNetTrainerSCD_trial"]
    settings = (trainer.scd_num_epochs, trainer.scd_iterations_per_epoch, trainer.scd_val_iterations_per_epoch)
    assert settings == (5, 20, 4)
    assert trainer.scd_preset() == "base"
    # or it would not be found
    assert f"next: nnUNet_extTrainer={own.parent} scd predict -i" in capsys.readouterr().out


def test_goes_on_where_it_stopped(
    data: Path, tmp_path: Path, commands: Commands, capsys: pytest.CaptureFixture[str]
) -> None:
    asked, trainer = Training(data, "small-fast"), "nnUNetTrainerSCD_small_fast"
    commands.stopped = True
    with pytest.raises(subprocess.CalledProcessError):
        train(asked, tmp_path / "out", device="cpu")
    commands.stopped = False
    train(asked, tmp_path / "out", device="cpu")
    assert commands.ran == [PLANNED, TRAINED.format(trainer), f"{TRAINED.format(trainer)} --c"]
    assert "done before: data set\ndone before: plan and preprocess\n" in capsys.readouterr().out
    train(asked, tmp_path / "out", device="cpu")
    # nothing but the report
    assert len(commands.ran) == 3


def test_a_conversion_that_was_stopped_is_done_again(data: Path, tmp_path: Path, commands: Commands) -> None:
    asked, raw = Training(data, "small-fast"), tmp_path / "out" / "nnUNet_raw"
    train(asked, tmp_path / "out", device="cpu")
    state = json.loads((tmp_path / "out" / STATE).read_text())
    (tmp_path / "out" / STATE).write_text(json.dumps({**state, "done": []}))
    (raw / "Dataset027_A" / "dataset.json").write_text("{")
    train(asked, tmp_path / "out", device="cpu")
    assert json.loads((raw / "Dataset027_A" / "dataset.json").read_text())["numTraining"] == 6
    assert len(list((data / "imagesTr").iterdir())) == 6
    assert len(commands.ran) == 4


@pytest.mark.usefixtures("commands")
def test_links_for_the_converter_are_made_anew(data: Path, tmp_path: Path) -> None:
    asked = Training(data, "small-fast")
    links = tmp_path / "out" / "decathlon" / "Task902_a"
    train(asked, tmp_path / "out", device="cpu")
    links.mkdir(parents=True)
    (links / "imagesTr").symlink_to(data / "imagesTr")
    state = json.loads((tmp_path / "out" / STATE).read_text())
    (tmp_path / "out" / STATE).write_text(json.dumps({**state, "done": []}))
    train(asked, tmp_path / "out", device="cpu")
    assert not links.parent.exists()
    assert len(list((data / "imagesTr").iterdir())) == 6


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "another preset": (
        lambda data: (Training(data, "base"), "begun"),
        "begun was begun with preset small-fast, and now it is base; take the same, or another output",
    ),
    "other epochs": (
        lambda data: (Training(data, "small-fast", epochs=2), "begun"),
        "begun with epochs the trainer's own, and now it is 2",
    ),
    "no such preset": (
        lambda data: (Training(data, "huge"), "new"),
        "preset must be one that a trainer has: base, .*got h",
    ),
    "a full folder": (lambda data: (Training(data, "base"), "full"), "output must be a new or empty folder, or one of"),
    "inside": (lambda data: (Training(data, "base"), "Dataset027_A/out"), "data and output must lie apart"),
    "no epochs": (lambda data: (Training(data, "base", epochs=0), "new"), "epochs must be at least 1; got 0"),
    "no steps": (lambda data: (Training(data, "base", iterations=-1), "new"), "iterations must be at least 1; got -1"),
    "no data": (lambda data: (Training(data / "no", "base"), "new"), "no lacks dataset.json"),
}


@pytest.mark.usefixtures("commands")
@pytest.mark.parametrize("case", REFUSED)
def test_refused(data: Path, tmp_path: Path, case: str) -> None:
    ask, message = REFUSED[case]
    asked, output = ask(data)
    if output == "begun":
        train(Training(data, "small-fast"), tmp_path / output, device="cpu")
    if output == "full":
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "mine.txt").touch()
    with pytest.raises(ValueError, match=message):
        train(asked, tmp_path / output, device="cpu")
    assert not (tmp_path / "new").exists()


def test_too_few_cases(tmp_path: Path, volumes: Any, commands: Commands) -> None:
    data = volumes.nnunet(tmp_path / "Dataset027_A", num_cases=4)
    with pytest.raises(
        ValueError, match=r"cuts the labelled cases into five parts, so it needs at least 5; .*_A has 4"
    ):
        train(Training(data, "small-fast"), tmp_path / "out", device="cpu")
    assert commands.ran == []


def test_help_is_in_one_voice() -> None:
    program = Path(sys.executable).parent / "scd"
    said = subprocess.run([program, "train", "--help"], capture_output=True, text=True, check=True).stdout
    assert "Plan, preprocess, train one fold and report with nnU-Net's commands." in said
