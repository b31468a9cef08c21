"""Real cases from a Decathlon folder to Dice, with a training that is killed and goes on."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from scd_plugin.nnunet.checkpoint import trusted_checkpoint_types

pytestmark = pytest.mark.slow

TRAINER = "nnUNetTrainerSCD_of_mine"
WHAT = ("4", "3d_fullres", "0", "-tr", TRAINER, "-device", "cpu")
EPOCHS = 4

# as in docs/how-to/own-settings.md
OWN_TRAINER = f"""
from scd_plugin.nnunet.trainers import nnUNetTrainerSCD_demo


class {TRAINER}(nnUNetTrainerSCD_demo):
    scd_num_epochs = {EPOCHS}
    scd_keep_ratio = 0.5

    def on_train_start(self):
        super().on_train_start()
        self.save_every = 1
        self.num_iterations_per_epoch = 3
        self.num_val_iterations_per_epoch = 1
"""


def log_of(model: Path) -> str:
    return "".join(path.read_text() for path in sorted(model.glob("fold_0/training_log_*.txt")))


@pytest.fixture(scope="module")
def model(nnunet, hippocampus: Path) -> Path:  # type: ignore[no-untyped-def]
    """A model folder, trained in two parts."""
    own = nnunet.root / "own_trainers"
    own.mkdir()
    (own / "mine.py").write_text(OWN_TRAINER)
    nnunet.variables["nnUNet_extTrainer"] = str(own)
    nnunet.run("nnUNetv2_convert_MSD_dataset", "-i", str(hippocampus), "-np", "1")
    nnunet.run(
        "nnUNetv2_plan_and_preprocess", "-d", "4", "-c", "3d_fullres", "-np", "1", "-npfp", "1",
        "--verify_dataset_integrity",
    )  # fmt: skip
    model = nnunet.root / "nnUNet_results" / "Dataset004_Hippocampus" / f"{TRAINER}__nnUNetPlans__3d_fullres"

    training = nnunet.start("nnUNetv2_train", *WHAT)
    deadline = time.monotonic() + 600
    while training.poll() is None and time.monotonic() < deadline:
        # after the warm-up, so that going on has to enter the second stage of the schedule
        if "Epoch 2" in log_of(model):
            break
        time.sleep(0.2)
    assert training.poll() is None, training.communicate()[0][-4000:]
    os.killpg(training.pid, signal.SIGKILL)
    training.communicate()

    nnunet.run("nnUNetv2_train", *WHAT, "--c")
    return model


def test_training_went_on_where_it_was_killed(model: Path) -> None:
    logs = sorted(model.glob("fold_0/training_log_*.txt"))
    assert len(logs) == 2
    epochs = [[int(number) for number in re.findall(r": Epoch (\d+)", log.read_text())] for log in logs]
    assert epochs == [[0, 1, 2], [2, 3]]
    rates = [float(rate) for rate in re.findall(r"Current learning rate: (\S+)", log_of(model))]
    # warm-up in epoch 0, then polynomial decay over the 3 epochs left; the killed epoch has the same rate again
    decay = [round(0.01 * (1 - step / 3) ** 0.9, 5) for step in range(3)]
    assert rates == pytest.approx([0.01, decay[0], decay[1], decay[1], decay[2]], abs=2e-5)


def test_checkpoint_says_how_it_was_made(model: Path) -> None:
    with trusted_checkpoint_types():
        checkpoint = torch.load(model / "fold_0" / "checkpoint_final.pth", weights_only=True)
    assert checkpoint["trainer_name"] == TRAINER
    assert checkpoint["current_epoch"] == EPOCHS
    assert len(checkpoint["logging"]["train_losses"]) == EPOCHS
    assert all(np.isfinite(checkpoint["logging"]["train_losses"]))
    assert not [name for name in checkpoint["network_weights"] if "grid_idx" in name]


def test_predict_in_a_clean_process_and_evaluate(nnunet, model: Path) -> None:  # type: ignore[no-untyped-def]
    raw = nnunet.root / "nnUNet_raw" / "Dataset004_Hippocampus"
    images, labels, output = (nnunet.root / name for name in ("images", "labels", "predictions"))
    for folder in (images, labels):
        folder.mkdir()
    for label in sorted((raw / "labelsTr").iterdir())[:2]:
        case = label.name.removesuffix(".nii.gz")
        (labels / label.name).symlink_to(label)
        (images / f"{case}_0000.nii.gz").symlink_to(raw / "imagesTr" / f"{case}_0000.nii.gz")
    nnunet.run(
        "nnUNetv2_predict", "-i", str(images), "-o", str(output), "-d", "4", "-c", "3d_fullres", "-f", "0",
        "-tr", TRAINER, "-device", "cpu", "-npp", "1", "-nps", "1",
    )  # fmt: skip
    for label in labels.iterdir():
        truth, prediction = sitk.ReadImage(str(label)), sitk.ReadImage(str(output / label.name))
        assert prediction.GetSize() == truth.GetSize()
        assert prediction.GetSpacing() == pytest.approx(truth.GetSpacing())
        assert prediction.GetDirection() == pytest.approx(truth.GetDirection())
        assert set(np.unique(sitk.GetArrayFromImage(prediction))) <= {0, 1, 2}
    nnunet.run(
        "nnUNetv2_evaluate_folder", str(labels), str(output),
        "-djfile", str(model / "dataset.json"), "-pfile", str(model / "plans.json"),
    )  # fmt: skip
    summary = json.loads((output / "summary.json").read_text())
    assert len(summary["metric_per_case"]) == 2
    assert set(summary["mean"]) == {"1", "2"}
    assert 0 <= summary["foreground_mean"]["Dice"] <= 1
