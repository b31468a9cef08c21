from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("nnunetv2")

from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.training.nnUNetTrainer.primus.primus_trainers import nnUNet_Primus_S_Trainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from scd_plugin.networks.agreement import Agreement
from scd_plugin.nnunet.primus_agreement import model_agreement, write_agreement


@pytest.mark.slow
def test_of_a_model_of_nnunets_own_trainer(tmp_path: Path) -> None:
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "patch_size": [32, 32, 32],
        # Primus asks for none of it; without it nnU-Net takes the plans for older ones
        "architecture": {"network_class_name": "none", "arch_kwargs": {}, "_kw_requires_import": []},
    }
    plans = {"label_manager": "LabelManager", "configurations": {"3d_fullres": configuration}}
    dataset = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "a": 1, "b": 2}, "file_ending": ".nii.gz"}
    manager = PlansManager(plans)
    arguments = (manager, manager.get_configuration("3d_fullres"), 1, 3, False)
    network = nnUNet_Primus_S_Trainer.build_network_architecture(*arguments)
    (tmp_path / "fold_0").mkdir()
    (tmp_path / "plans.json").write_text(json.dumps(plans))
    (tmp_path / "dataset.json").write_text(json.dumps(dataset))
    checkpoint = {
        "network_weights": network.state_dict(),
        "trainer_name": "nnUNet_Primus_S_Trainer",
        "init_args": {"configuration": "3d_fullres"},
    }
    torch.save(checkpoint, tmp_path / "fold_0" / "checkpoint_final.pth")
    (tmp_path / "cases").mkdir()
    image = np.random.default_rng(0).normal(size=(1, 30, 40, 33)).astype(np.float32)
    nnUNetDatasetBlosc2.save_case(image, np.zeros_like(image, np.int8), {}, str(tmp_path / "cases" / "one"))

    results = model_agreement(tmp_path, tmp_path / "cases", ["one"], priors=("norm",), keep_ratios=(1, 0.5))
    assert [result.keep_ratio for result in results] == [1, 0.5]
    assert (results[0].voxels, results[0].logit_error) == (1.0, 0.0)
    assert 0 < results[1].logit_error < 1


def test_table(tmp_path: Path) -> None:
    write_agreement([Agreement("norm", 0.5, (0.75, 0.25), 0.875, 0.1)], tmp_path / "table.csv")
    lines = (tmp_path / "table.csv").read_text().splitlines()
    assert lines == ["prior,keep_ratio,voxels,logit_error,dice_1,dice_2", "norm,0.5,0.875,0.1,0.75,0.25"]
