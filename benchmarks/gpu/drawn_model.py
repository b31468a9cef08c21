"""Plan a data set and write a model folder with drawn weights: python drawn_model.py DATA_SET TRAINER MODEL [PATCH]."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from whole_case import CONFIGURATION

from scd_plugin.nnunet.model.recipe import NnunetRecipe
from scd_plugin.nnunet.model.trained_network import network_of


def drawn_model(preprocessed: Path, trainer: str, model: Path, patch: int | None = None) -> None:
    """Let nnU-Net plan, build a trainer's network, and write what `nnUNetv2_predict_from_modelfolder` reads.

    Args:
        preprocessed: folder of the data set with a fingerprint; nnU-Net's variables name where it lies.
        trainer: a name that nnU-Net finds.
        model: the folder to write.
        patch: voxels of the windows' edges; None for what nnU-Net plans.
    """
    if not (preprocessed / "nnUNetPlans.json").is_file():
        ExperimentPlanner(preprocessed.name).plan_experiment()
    plans = json.loads((preprocessed / "nnUNetPlans.json").read_text())
    if patch is not None:
        plans["configurations"][CONFIGURATION]["patch_size"] = [patch] * 3
    dataset = json.loads((preprocessed / "dataset.json").read_text())
    torch.manual_seed(0)
    network = network_of(trainer, NnunetRecipe(plans, dataset, CONFIGURATION))
    (model / "fold_0").mkdir(parents=True)
    (model / "plans.json").write_text(json.dumps(plans))
    (model / "dataset.json").write_text(json.dumps(dataset))
    checkpoint = {
        "network_weights": network.state_dict(),
        "trainer_name": trainer,
        "init_args": {"configuration": CONFIGURATION, "plans": plans, "fold": 0, "dataset_json": dataset},
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }
    torch.save(checkpoint, model / "fold_0" / "checkpoint_final.pth")


if __name__ == "__main__":
    drawn_model(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), *map(int, sys.argv[4:]))
