"""Weights alone as nnU-Net's model: the plans and the trainer are named beside them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from scd_plugin.bridge.bundle_reader import read_weights
from scd_plugin.bridge.to_nnunet import weights_to_nnunet


class TestWeightsAlone:
    @pytest.mark.parametrize("entry", [None, "model", "state_dict"])
    def test_same_model(self, make_model: Callable[..., Path], tmp_path: Path, entry: str | None) -> None:
        model = make_model()
        known = read_weights(model / "fold_0" / "checkpoint_final.pth")
        weights = {f"module.{name}": value for name, value in known.items()}
        torch.save({entry: weights} if entry else weights, tmp_path / "weights.pt")
        moved = weights_to_nnunet(
            tmp_path / "weights.pt",
            plans=model / "plans.json",
            dataset_json=model / "dataset.json",
            trainer="nnUNetTrainerSCD_demo",
            mirror_axes=[0],
        )
        assert moved.name == model.name
        assert moved.mirror_axes == (0,)
        assert moved.weights["0"].keys() == known.keys()

    def test_of_another_trainer(self, make_model: Callable[..., Path]) -> None:
        model = make_model()
        with pytest.raises(ValueError, match="do not fit the network that nnUNetTrainerSCD_small builds"):
            weights_to_nnunet(
                model / "fold_0" / "checkpoint_final.pth",
                plans=model / "plans.json",
                dataset_json=model / "dataset.json",
                trainer="nnUNetTrainerSCD_small",
            )

    @pytest.mark.parametrize("content", [{"model": [1, 2]}, [1, 2], {}], ids=str)
    def test_no_weights(self, tmp_path: Path, content: Any) -> None:
        torch.save(content, tmp_path / "weights.pt")
        with pytest.raises(ValueError, match=r"weights.pt holds no state dict, neither flat nor under model"):
            read_weights(tmp_path / "weights.pt")
