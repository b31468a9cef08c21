"""What a bundle scores after a training of another fold, spacing, folder and length than the usual ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import run
from typer.testing import CliRunner

from scd_plugin.cli import app
from scd_plugin.monai import data_lists
from scd_plugin.monai.audit import audit_bundle
from scd_plugin.monai.errors import explained

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def copied(of_fold_1: Any, tmp_path: Path) -> Callable[[], Any]:
    """Copies the bundle, and its data that may change."""

    def copy() -> Any:
        root, data = (shutil.copytree(old, tmp_path / old.name) for old in (of_fold_1.root, of_fold_1.data))
        return replace(of_fold_1, root=Path(root), data=Path(data))

    return copy


def refusal(bundle: Any, *names: str, **options: Any) -> str:
    with pytest.raises((ValueError, RuntimeError)) as caught:
        bundle.run(*names, **{"num_workers": 0, **options})
    return explained(caught.value) or ""


def dice(bundle: Any) -> float:
    return float((bundle.root / "eval" / "metrics.csv").read_text().split(",")[1])


def scored(bundle: Any) -> set[str]:
    _, *rows = (bundle.root / "eval" / "val_mean_dice_raw.csv").read_text().splitlines()
    return {Path(row.split(",")[0]).name.removesuffix(".nii.gz") for row in rows}


def validation(bundle: Any, fold: int) -> set[str]:
    return {entry["case"] for entry in data_lists(str(bundle.data), fold=fold)["validation"]}


def test_last_epoch_is_validated(of_fold_1: Any) -> None:
    best = json.loads((of_fold_1.root / "models" / "best.json").read_text())
    assert best["epoch"] == 1
    assert (of_fold_1.root / "models" / "model.pt").is_file()


def test_spacing_is_recorded_as_it_was_used(of_fold_1: Any) -> None:
    assert json.loads((of_fold_1.configs / "inference.json").read_text())["spacing"] == [1.0, 1.0, 2.0]
    assert json.loads((of_fold_1.configs / "metadata.json").read_text())["dataset"]["spacing"] == [1.0, 1.0, 2.0]


def test_evaluation_scores_the_fold_of_the_training(of_fold_1: Any) -> None:
    """At its spacing, with the weights of the bundle, wherever the checkpoints are."""
    of_fold_1.run("train", "evaluate", num_workers=0, ckpt_dir="elsewhere")
    assert scored(of_fold_1) == validation(of_fold_1, 1) != validation(of_fold_1, 0)
    best = json.loads((of_fold_1.root / "models" / "best.json").read_text())
    assert dice(of_fold_1) == pytest.approx(best["value"], abs=1e-5)


def test_another_fold_is_refused(of_fold_1: Any) -> None:
    sentence = refusal(of_fold_1, "train", "evaluate", fold=0)
    assert sentence.startswith("2 of 2 cases to validate were trained on, the first is case_")
    assert "give --fold 1 as in the training" in sentence


def test_audit_counts_the_fold_of_the_training(of_fold_1: Any) -> None:
    device = torch.device("cpu")
    of_training, of_fold = (
        audit_bundle(of_fold_1.root, of_fold_1.data, device=device, fold=fold).row() for fold in (None, "1")
    )
    # a share of no component is none
    assert of_training == pytest.approx(of_fold, nan_ok=True)
    words = ["audit", str(of_fold_1.root), str(of_fold_1.data), "--fold", "0", "--device", "cpu"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: 2 of 2 cases to validate were trained on, the first is case_")


def test_cases_that_were_added(copied: Callable[[], Any], volumes: Any) -> None:
    """The folds are others then."""
    bundle = copied()
    image, label = volumes.case(np.random.default_rng(9))
    for name in ("case_6", "case_7"):
        volumes.write(bundle.data / "images" / f"{name}.nii.gz", image)
        volumes.write(bundle.data / "labels" / f"{name}.nii.gz", label)
    assert validation(bundle, 1) == {"case_1", "case_7"}
    assert refusal(bundle, "train", "evaluate") == (
        "1 of 2 cases to validate were trained on, the first is case_1 (models/trained_on.json names them): leave such "
        "cases out with --skip_trained True. If they are others of the same names, move that file away"
    )
    bundle.run("train", "evaluate", num_workers=0, skip_trained=True)
    assert scored(bundle) == {"case_7"}


def test_going_on_with_another_fold_is_refused(copied: Callable[[], Any]) -> None:
    bundle = copied()
    options = {**bundle.overrides, "epochs": 2, "fold": 0, "resume": True}
    assert "with --fold 1 and --seed 0: go on with these and the same data" in refusal(bundle, "train", **options)


def test_data_of_another_kind_are_refused(copied: Callable[[], Any], volumes: Any) -> None:
    bundle = copied()
    volumes.write(bundle.data / "labels" / "case_0.nii.gz", np.full(volumes.shape, 3, np.uint8))
    sentence = refusal(bundle, "train", "evaluate")
    assert "case_0.nii.gz holds the values (3), which are not among [0, 1, 2]" in sentence
    image = np.zeros((*volumes.shape, 2), np.float32)
    volumes.write(bundle.data / "images" / "case_0.nii.gz", image, channels=True)
    assert "case_0.nii.gz has 2 channels where 1 are expected" in refusal(bundle, "train", "evaluate")


def test_bundle_root_that_was_forgotten(of_fold_1: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sentence = f"bundle_root must be the folder of the bundle; {tmp_path} has no configs/inference.json: give it with "
    for names in (("train",), ("train", "evaluate")):
        options = {**of_fold_1.overrides, "ckpt_dir": str(tmp_path)} if names == ("train",) else {}
        with pytest.raises((ValueError, RuntimeError)) as caught:
            run(config_file=of_fold_1.config(*names), dataset_dir=str(of_fold_1.data), **options)
        assert (explained(caught.value) or "").startswith(sentence)
