"""Primus trainers through nnU-Net's commands, on real cases."""

from __future__ import annotations

import json
from math import isfinite
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

pytestmark = pytest.mark.slow

# as in docs/how-to/own-settings.md
OWN_TRAINER = """
from scd_plugin.nnunet.trainers import {base}


class {base}_of_mine({base}):
    scd_num_epochs = 2
    scd_keep_ratio = 0.5
    scd_patch_size = 8

    def on_train_start(self):
        super().on_train_start()
        self.num_iterations_per_epoch = 2
        self.num_val_iterations_per_epoch = 1
        # a prediction for each window in place of eight
        self.inference_allowed_mirroring_axes = None
"""


@pytest.mark.parametrize(
    ("base", "configuration"),
    [
        ("nnUNetTrainerSCDPrimusS", "3d_fullres"),
        ("nnUNetTrainerSCDPrimusV2S", "3d_fullres"),
        ("nnUNetTrainerSCDPrimusV3S", "3d_fullres"),
        ("nnUNetTrainerSCDPrimusS", "2d"),
    ],
    ids=["V1", "V2", "V3", "V1 in 2-D"],
)
def test_train_and_predict(trained: Any, base: str, configuration: str) -> None:
    nnunet, root = trained.nnunet, trained.nnunet.root
    trainer = f"{base}_of_mine"
    (root / "own_trainers" / f"mine_{base}.py").write_text(OWN_TRAINER.format(base=base))
    if configuration == "2d":
        nnunet.run("nnUNetv2_preprocess", "-d", "4", "-c", configuration, "-np", "1")
    nnunet.run("nnUNetv2_train", "4", configuration, "0", "-tr", trainer, "-device", "cpu")
    model = trained.model.with_name(f"{trainer}__nnUNetPlans__{configuration}")
    output = root / f"predicted_by_{base}_{configuration}"
    nnunet.run(
        "nnUNetv2_predict", "-i", str(trained.images), "-o", str(output), "-d", "4", "-c", configuration, "-f", "0",
        "-tr", trainer, "-device", "cpu", "-npp", "0", "-nps", "0",
    )  # fmt: skip
    for label in trained.labels.iterdir():
        truth, prediction = (sitk.ReadImage(str(folder / label.name)) for folder in (trained.labels, output))
        assert prediction.GetSize() == truth.GetSize()
        assert set(np.unique(sitk.GetArrayFromImage(prediction))) <= {0, 1, 2}
    validated = json.loads((model / "fold_0" / "validation" / "summary.json").read_text())
    assert isfinite(validated["foreground_mean"]["Dice"])
