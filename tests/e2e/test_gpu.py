"""nnU-Net's training on one CUDA device and on several."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from scd_plugin.nnunet.model.checkpoint import read_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.gpu]

OWN_TRAINER = """
from scd_plugin.nnunet.trainers import nnUNetTrainerSCD_demo


class nnUNetTrainerSCD_short(nnUNetTrainerSCD_demo):
    scd_num_epochs = 3

    def on_train_start(self):
        super().on_train_start()
        self.num_iterations_per_epoch = 4
"""


@pytest.fixture(scope="module")
def prepared(nnunet: Any, hippocampus: Path) -> Any:
    """nnU-Net's folders, with the real cases preprocessed."""
    nnunet.run("nnUNetv2_convert_MSD_dataset", "-i", str(hippocampus), "-np", "1")
    nnunet.run("nnUNetv2_plan_and_preprocess", "-d", "4", "-c", "3d_fullres", "-np", "1", "-npfp", "1")
    return nnunet


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_two_gpus(prepared: Any) -> None:
    own = prepared.root / "own"
    own.mkdir()
    (own / "short.py").write_text(OWN_TRAINER)
    prepared.variables["nnUNet_extTrainer"] = str(own)
    prepared.run("nnUNetv2_train", "4", "3d_fullres", "0", "-tr", "nnUNetTrainerSCD_short", "-num_gpus", "2")
    results = prepared.root / "nnUNet_results" / "Dataset004_Hippocampus"
    fold = results / "nnUNetTrainerSCD_short__nnUNetPlans__3d_fullres" / "fold_0"
    assert sorted(path.name for path in fold.glob("checkpoint*")) == ["checkpoint_best.pth", "checkpoint_final.pth"]
    checkpoint = read_checkpoint(str(fold / "checkpoint_final.pth"), needs=["network_weights", "logging"])
    assert not [name for name in checkpoint["network_weights"] if name.startswith(("module.", "_orig_mod."))]
    assert len(checkpoint["logging"]["train_losses"]) == 3
    assert np.isfinite(checkpoint["logging"]["train_losses"]).all()
    summary = json.loads((fold / "validation" / "summary.json").read_text())
    assert 0 <= summary["foreground_mean"]["Dice"] <= 1


OWN_TRAINERS = """
from scd_plugin.nnunet.trainers import nnUNetTrainerSCD_fast, nnUNetTrainerSCDPrimusS


class Short:
    scd_num_epochs = 2

    def on_train_start(self):
        super().on_train_start()
        self.num_iterations_per_epoch = 6
        self.num_val_iterations_per_epoch = 2


class nnUNetTrainerFastShort(Short, nnUNetTrainerSCD_fast):
    pass


class nnUNetTrainerPrimusShort(Short, nnUNetTrainerSCDPrimusS):
    pass
"""


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("trainer", ["nnUNetTrainerFastShort", "nnUNetTrainerPrimusShort"])
def test_commands(prepared: Any, trainer: str) -> None:
    """Compiled and in float16, as nnU-Net does by default; then the same model predicts there and on the CPU."""
    own = prepared.root / "own_one"
    own.mkdir(exist_ok=True)
    (own / "short.py").write_text(OWN_TRAINERS)
    prepared.variables["nnUNet_extTrainer"] = str(own)
    said = prepared.run("nnUNetv2_train", "4", "3d_fullres", "0", "-tr", trainer)
    assert "Using torch.compile" in said
    results = prepared.root / "nnUNet_results" / "Dataset004_Hippocampus"
    fold = results / f"{trainer}__nnUNetPlans__3d_fullres" / "fold_0"
    checkpoint = read_checkpoint(str(fold / "checkpoint_final.pth"), needs=["network_weights", "logging"])
    assert not [name for name in checkpoint["network_weights"] if name.startswith("_orig_mod.")]
    assert np.isfinite(checkpoint["logging"]["train_losses"]).all()
    assert 0 <= json.loads((fold / "validation" / "summary.json").read_text())["foreground_mean"]["Dice"] <= 1
    images, maps = prepared.root / f"images_{trainer}", []
    images.mkdir()
    image = sorted((prepared.root / "nnUNet_raw" / "Dataset004_Hippocampus" / "imagesTr").glob("*.nii.gz"))[0]
    (images / image.name).symlink_to(image)
    for device in ("cuda", "cpu"):
        output = prepared.root / f"{trainer}_{device}"
        prepared.run(
            "nnUNetv2_predict", "-i", str(images), "-o", str(output), "-d", "4", "-c", "3d_fullres", "-f", "0",
            "-tr", trainer, "-device", device, "-npp", "1", "-nps", "1",
        )  # fmt: skip
        maps.append(sitk.GetArrayFromImage(sitk.ReadImage(str(next(output.glob("*.nii.gz"))))))
    # float16 rounds a class to another one where two are nearly equal
    assert (maps[0] == maps[1]).mean() >= 0.99
