"""The plug-in's own bundles become nnU-Net's models without a file of the user's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from scd_plugin import SCDUNETR
from scd_plugin.bridge.to_nnunet import bundle_to_nnunet
from scd_plugin.networks.presets import get_preset

BUNDLES = Path(__file__).parents[2] / "bundles"
SIZE = ("feature_size", "hidden_size", "mlp_dim", "num_heads", "num_layers", "prune_after")


@pytest.mark.parametrize(
    ("name", "keep_ratio"), [("scd_unetr_btcv_segmentation", 0.1), ("scd_unetr_segmentation", 0.25)]
)
def test_trainer_and_network(tmp_path: Path, name: str, keep_ratio: float) -> None:
    bundle = tmp_path / name
    (bundle / "models").mkdir(parents=True)
    shutil.copytree(BUNDLES / name / "configs", bundle / "configs")
    inference = bundle / "configs" / "inference.json"
    published = json.loads(inference.read_text())
    # their own keep ratio and norm, in a network that is made quickly
    _, tiny = get_preset("tiny")
    published["network_def"].update({key: tiny[key] for key in SIZE})
    published["device"] = "cpu"
    inference.write_text(json.dumps(published))
    network = {key: value for key, value in published["network_def"].items() if not key.startswith("_")}
    torch.save(SCDUNETR(**network).state_dict(), bundle / "models" / "model.pt")
    moved = bundle_to_nnunet(bundle)
    assert moved.trainer_name == "nnUNetTrainerSCD"
    planned = moved.plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    assert planned["keep_ratio"] == keep_ratio
    assert planned["img_size"] == [96, 96, 96]
