"""A Primus trainer through nnU-Net's commands, on real cases."""

from __future__ import annotations

import json
from math import isfinite
from typing import Any

import pytest

pytestmark = pytest.mark.slow

TRAINER = "nnUNetTrainerSCDPrimus_of_mine"
# as in docs/how-to/own-settings.md
OWN_TRAINER = f"""
from scd_plugin.nnunet.trainers import nnUNetTrainerSCDPrimusS


class {TRAINER}(nnUNetTrainerSCDPrimusS):
    scd_num_epochs = 2
    scd_keep_ratio = 0.5
    scd_patch_size = 8

    def on_train_start(self):
        super().on_train_start()
        self.num_iterations_per_epoch = 2
        self.num_val_iterations_per_epoch = 1
"""


def test_train_predict_evaluate(trained: Any) -> None:
    nnunet, root = trained.nnunet, trained.nnunet.root
    (root / "own_trainers" / "mine_primus.py").write_text(OWN_TRAINER)
    nnunet.run("nnUNetv2_train", "4", "3d_fullres", "0", "-tr", TRAINER, "-device", "cpu")
    output = root / "predicted_by_primus"
    nnunet.run(
        "nnUNetv2_predict", "-i", str(trained.images), "-o", str(output), "-d", "4", "-c", "3d_fullres", "-f", "0",
        "-tr", TRAINER, "-device", "cpu", "-npp", "1", "-nps", "1",
    )  # fmt: skip
    nnunet.run(
        "nnUNetv2_evaluate_folder", str(trained.labels), str(output), "-djfile", str(output / "dataset.json"),
        "-pfile", str(output / "plans.json"), "-np", "1",
    )  # fmt: skip
    summary = json.loads((output / "summary.json").read_text())
    assert len(summary["metric_per_case"]) == 2
    assert isfinite(summary["foreground_mean"]["Dice"])
