"""A fold of a training: curves of its log, the audit, validation cases, and where truth and images are."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scd_plugin.report.training import _homes, read_log
from scd_plugin.report.write import find_run, write_report

LOG = """
2026-11-28 15:05:50.346785: Epoch 0
2026-11-28 15:05:50.346959: Current learning rate: 0.01
2026-11-28 15:06:15.747945: train_loss 0.9085
2026-11-28 15:06:15.748168: val_loss 0.311
2026-11-28 15:06:15.748260: Pseudo dice [np.float32(0.25), nan]
2026-11-28 15:06:15.748333: Epoch time: 25.41 s
2026-11-28 15:06:16.352877:
2026-11-28 15:06:16.353140: Epoch 1
2026-11-28 15:06:32.935735: train_loss nan
2026-11-28 15:06:32.935861: val_loss -0.5
2026-11-28 15:06:32.935861: Pseudo dice [0.5, np.float64(1e-01)]
"""
AGAIN = """
2026-11-28 16:06:16.353140: Epoch 1
2026-11-28 16:06:32.935735: train_loss -0.25
2026-11-28 16:06:32.935861: val_loss -0.75
"""
AUDIT = "mixed_left_at_1,foreground_left_at_1,background_left_at_1,chance_left_at_1"


@pytest.fixture
def fold(make_run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fold whose data set lies where nnU-Net would have it."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed"):
        monkeypatch.delenv(name, raising=False)
    predictions = make_run()
    fold = tmp_path / "nnUNet_results" / "Dataset004_Mine" / "nnUNetTrainerSCD__nnUNetPlans__3d_fullres" / "fold_0"
    shutil.copytree(predictions, fold / "validation")
    (fold / "validation" / "dataset.json").rename(fold.parent / "dataset.json")
    (fold / "training_log_2026_11_28_15_05_49.txt").write_text(LOG)
    (fold / "debug.json").write_text(
        json.dumps({"batch_size": "2", "torch_version": "2.8.0", "scd_size": "tiny", "loss": "x"})
    )
    return fold


def test_curves_of_logs(tmp_path: Path) -> None:
    (tmp_path / "training_log_2026_1_1_1.txt").write_text(LOG)
    (tmp_path / "training_log_2026_1_1_2.txt").write_text(AGAIN)
    loss, dice, seconds, rate = read_log(tmp_path, ["one", "two"])
    # of an epoch that was trained twice the later one counts
    assert loss.lines == {"training loss": [(0, 0.9085), (1, -0.25)], "validation loss": [(0, 0.311), (1, -0.75)]}
    assert dice.lines == {"mean": [(0, 0.25), (1, pytest.approx(0.3))], "one": [(0, 0.25), (1, 0.5)], "two": [(1, 0.1)]}
    assert seconds.lines == {"seconds": [(0, 25.41)]}
    assert rate.lines == {"learning rate": [(0, 0.01)]}


def test_a_log_of_nothing_has_no_curves(tmp_path: Path) -> None:
    assert read_log(tmp_path, []) == []
    (tmp_path / "training_log_1.txt").write_bytes(b"Epoch \xff\n: train_loss word\n: Pseudo dice []\n")
    assert read_log(tmp_path, []) == []


def test_classes_go_by_value(fold: Path) -> None:
    """As nnU-Net's channels do, and with them its log."""
    description = json.loads((fold.parent / "dataset.json").read_text())
    description["labels"] = {"two": 2, "background": 0, "one": 1}
    (fold.parent / "dataset.json").write_text(json.dumps(description))
    run = find_run(fold)
    assert list(run.classes) == ["one", "two"]
    (dice,) = [chart for chart in run.curves if "one" in chart.lines]
    assert dice.lines["one"] == [(0, 0.25), (1, 0.5)]


def test_a_model_that_nothing_lies_above(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("nnUNet_raw", raising=False)
    assert _homes("nnUNet_raw", Path("/model")) == [Path("/nnUNet_raw")]


def test_page_of_a_fold(fold: Path, tmp_path: Path, read_page: Any) -> None:
    (fold / "token_audit.csv").write_text(f"epoch,{AUDIT}\n0,0.5,0.4,0.9,0.75\n1,0.25,nan,0.95,0.75\n")
    shutil.copytree(tmp_path / "truth", tmp_path / "nnUNet_preprocessed" / "Dataset004_Mine" / "gt_segmentations")
    shutil.copytree(tmp_path / "images", tmp_path / "nnUNet_raw" / "Dataset004_Mine" / "imagesTr")
    page = read_page(write_report(fold).path)
    assert "3 cases, the worst first: by their mean Dice." in page.text
    assert len(page.pictures) == 18
    assert "image with outlines" in page.pictures[0]
    charts = [image["alt"] for image in page.all("img") if "svg" in image["src"]]
    assert "loss over epoch, at the end: training loss 0.908, validation loss -0.5" in charts
    assert (
        "Tokens that leave at stage 1, at epoch 1: mixed 25 %, foreground nan %, background 95 %, chance 75 %" in charts
    )
    assert "command nnUNetv2_train Dataset004_Mine 3d_fullres 0 -tr nnUNetTrainerSCD -p nnUNetPlans" in page.text
    assert "Training: nnUNetTrainerSCD__nnUNetPlans__3d_fullres, fold_0" in page.text
    assert "batch_size 2" in page.text
    assert "scd_size tiny" in page.text
    assert "torch 2.8.0" in page.text


def test_truth_of_the_evaluation_and_folders_of_variables(
    fold: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = {
        "prediction_file": str(fold / "validation" / "a.nii.gz"),
        "reference_file": str(tmp_path / "truth" / "a.nii.gz"),
    }
    gone = {**case, "prediction_file": "b.nii.gz", "reference_file": "/gone/b.nii.gz"}
    (fold / "validation" / "summary.json").write_text(json.dumps({"metric_per_case": [case, gone]}))
    assert find_run(fold).truth == {"a": tmp_path / "truth" / "a.nii.gz"}
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "elsewhere"))
    shutil.copytree(tmp_path / "images", tmp_path / "elsewhere" / "Dataset004_Mine" / "imagesTr")
    run = find_run(fold)
    assert run.images["a"] == tmp_path / "elsewhere" / "Dataset004_Mine" / "imagesTr" / "a_0000.nii.gz"
    assert "no truth of any case" not in " ".join(run.notes)


def test_a_network_that_prunes_nothing_and_a_training_that_has_not_ended(fold: Path, read_page: Any) -> None:
    shutil.rmtree(fold / "validation")
    page = read_page(write_report(fold).path)
    assert "the training has not validated yet, so there are no cases: it does so at its end" in page.text
    assert "There are no label maps here" in page.text
    assert "There is no audit of tokens: the network prunes none, or another trainer trained it." in page.text
    assert "loss over epoch" in " ".join(str(image["alt"]) for image in page.all("img"))


def test_damaged_files_beside_are_said(fold: Path, read_page: Any) -> None:
    (fold / "debug.json").write_text("[1]")
    (fold / "token_audit.csv").write_text("epoch\nx\n")
    page = read_page(write_report(fold).path)
    assert "debug.json must hold one JSON object; got a list; it is left out" in page.text
    assert "token_audit.csv can't be understood; it is left out" in page.text
