"""Real cases from a Decathlon folder to Dice, with a training that is killed and goes on."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from scd_plugin.nnunet.model.checkpoint import read_checkpoint, trusted_checkpoint_types

pytestmark = pytest.mark.slow

EPOCHS = 4


def test_training_went_on_where_it_was_killed(trained: Any) -> None:
    epochs = [[int(number) for number in re.findall(r": Epoch (\d+)", log)] for log in trained.training_logs]
    assert epochs == [[0, 1, 2], [2, 3]]
    rates = [float(rate) for rate in re.findall(r"Current learning rate: (\S+)", "".join(trained.training_logs))]
    # warm-up in epoch 0, then polynomial decay over the 3 epochs left; the killed epoch has the same rate again
    decay = [round(0.01 * (1 - step / 3) ** 0.9, 5) for step in range(3)]
    assert rates == pytest.approx([0.01, decay[0], decay[1], decay[1], decay[2]], abs=2e-5)


def test_what_was_learned_before_is_kept(trained: Any) -> None:
    file = trained.model / "fold_0" / "checkpoint_final.pth"
    kept = read_checkpoint(str(file), needs=["logging"])["logging"]
    for name in ("train_loss", "val_loss"):
        before, after = (
            [float(loss) for loss in re.findall(rf": {name} (-?\d\S*)", log)] for log in trained.training_logs
        )
        assert len(before) == 2
        assert np.round(kept[f"{name}es"], 4).tolist() == pytest.approx([*before, *after])
    assert list(file.parent.glob("*.partial")) == []


def test_checkpoint_says_how_it_was_made(trained: Any) -> None:
    model = trained.model
    with trusted_checkpoint_types():
        checkpoint = torch.load(model / "fold_0" / "checkpoint_final.pth", weights_only=True)
    assert checkpoint["trainer_name"] == trained.trainer
    assert checkpoint["current_epoch"] == EPOCHS
    assert len(checkpoint["logging"]["train_losses"]) == EPOCHS
    assert all(np.isfinite(checkpoint["logging"]["train_losses"]))
    assert not [name for name in checkpoint["network_weights"] if "grid_idx" in name]


def test_shipped_name_predicts_without_the_variable(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("nnUNet_extTrainer", raising=False)
    (tmp_path / "own").mkdir()
    own = "nnUNetTrainerSCD_of_another"
    (tmp_path / "own" / "another.py").write_text(
        f"from scd_plugin.nnunet.trainers import nnUNetTrainerSCD_demo\nclass {own}(nnUNetTrainerSCD_demo): pass\n"
    )
    voxels = {}
    for trainer, variable in ((own, {"nnUNet_extTrainer": str(tmp_path / "own")}), ("nnUNetTrainerSCD_demo", {})):
        model, output = trained.copy_with_all_classes(tmp_path / trainer, trainer=trainer), tmp_path / f"of_{trainer}"
        nnunet = type(trained.nnunet)(tmp_path / "folders", {**variable})
        nnunet.run(
            "nnUNetv2_predict_from_modelfolder", "-i", str(trained.images), "-o", str(output), "-m", str(model),
            "-f", "0", "-device", "cpu", "-npp", "1", "-nps", "1",
        )  # fmt: skip
        maps = [sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in sorted(output.glob("*.nii.gz"))]
        voxels[trainer] = np.concatenate([label_map.ravel() for label_map in maps])
    assert np.unique(voxels[own]).size > 1
    assert np.array_equal(voxels[own], voxels["nnUNetTrainerSCD_demo"])


def test_shipped_name_trains_without_the_variable(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("nnUNet_extTrainer", raising=False)
    name = "nnUNetTrainerSCD_small"
    folder = trained.model.with_name(f"{name}__nnUNetPlans__3d_fullres")
    nnunet = type(trained.nnunet)(trained.nnunet.root)
    nnunet.run_until(
        "Epoch 0", lambda: "".join(log.read_text() for log in folder.glob("fold_1/training_log_*.txt")),
        "nnUNetv2_train", "4", "3d_fullres", "1", "-tr", name, "-device", "cpu",
    )  # fmt: skip
    assert json.loads((folder / "fold_1" / "debug.json").read_text())["network"] == "SCDUNETR"


def test_predict_in_a_clean_process_and_evaluate(trained: Any) -> None:
    nnunet, model = trained.nnunet, trained.model
    images, labels, output = trained.images, trained.labels, nnunet.root / "predictions"
    nnunet.run(
        "nnUNetv2_predict", "-i", str(images), "-o", str(output), "-d", "4", "-c", "3d_fullres", "-f", "0",
        "-tr", trained.trainer, "-device", "cpu", "-npp", "1", "-nps", "1",
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
