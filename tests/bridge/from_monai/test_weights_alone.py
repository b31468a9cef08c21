"""Weights alone as nnU-Net's model: the plans and the trainer are named beside them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.inference.sliding_window_prediction import compute_gaussian

from scd_plugin.bridge.from_monai.bundle_reader import read_weights
from scd_plugin.bridge.from_monai.weights_alone import weights_to_nnunet
from scd_plugin.nnunet.model.recipe import read_recipe
from scd_plugin.nnunet.model.trained_network import network_of


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

    @pytest.mark.slow
    def test_same_label_map(self, make_model: Callable[..., Path], tmp_path: Path) -> None:
        model = make_model()
        known = read_weights(model / "fold_0" / "checkpoint_final.pth")
        torch.save(known, tmp_path / "weights.pt")
        moved = weights_to_nnunet(
            tmp_path / "weights.pt",
            plans=model / "plans.json",
            dataset_json=model / "dataset.json",
            trainer="nnUNetTrainerSCD_demo",
        ).write(tmp_path / "moved")
        predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(str(moved), None, "checkpoint_final.pth")
        # one window on the plans' spacing
        image = np.random.default_rng(0).integers(-100, 200, (1, 32, 32, 32)).astype(np.float32)
        label = predictor.predict_single_npy_array(image, {"spacing": [2.4, 1.0, 1.0]})
        recipe = read_recipe(model, "3d_fullres")
        preprocessed, _ = recipe.preprocess(image, {"spacing": [2.4, 1.0, 1.0]})
        network = network_of("nnUNetTrainerSCD_demo", recipe).eval()
        network.load_state_dict(known)
        with torch.no_grad():
            expected = network(torch.from_numpy(preprocessed)[None])[0].argmax(0).numpy()
        assert np.unique(expected).size == 3
        # nnU-Net adds up windows in float16: near ties fall to either side, most where weights are small
        weight = compute_gaussian((32, 32, 32), value_scaling_factor=10, device=torch.device("cpu")).numpy()
        assert (label == expected)[weight > 0.01].mean() > 0.999
        assert (label == expected).mean() > 0.98

    def test_of_another_trainer(self, make_model: Callable[..., Path]) -> None:
        model = make_model()
        with pytest.raises(
            ValueError, match=r"weights in .*checkpoint_final.pth do not fit the network that they are moved with"
        ):
            weights_to_nnunet(
                model / "fold_0" / "checkpoint_final.pth",
                plans=model / "plans.json",
                dataset_json=model / "dataset.json",
                trainer="nnUNetTrainerSCD_small",
            )

    def test_an_axis_that_is_not_there(self, make_model: Callable[..., Path]) -> None:
        model = make_model()
        with pytest.raises(ValueError, match=r"mirror_axes must be of 0 to 2, the axes of the plans' windows; got 3"):
            weights_to_nnunet(
                model / "fold_0" / "checkpoint_final.pth",
                plans=model / "plans.json",
                dataset_json=model / "dataset.json",
                trainer="nnUNetTrainerSCD_demo",
                mirror_axes=[0, 3],
            )

    def test_without_a_trainer(self, make_model: Callable[..., Path], tmp_path: Path) -> None:
        model = make_model()
        files: dict[str, Any] = {"plans": model / "plans.json", "dataset_json": model / "dataset.json"}
        checkpoint = model / "fold_0" / "checkpoint_final.pth"
        with pytest.raises(ValueError, match=r"plans.json names no network of SCD, so the trainer .* must be named"):
            weights_to_nnunet(checkpoint, **files)
        # once plans name the network, nothing else has to
        moved = weights_to_nnunet(checkpoint, **files, trainer="nnUNetTrainerSCD_demo").write(tmp_path / "moved")
        again = weights_to_nnunet(checkpoint, plans=moved / "plans.json", dataset_json=moved / "dataset.json")
        assert again.trainer_name == "nnUNetTrainerSCD"
        # each names its trainer beside the network
        written = [
            json.loads((folder / "plans.json").read_text()) for folder in (moved, again.write(tmp_path / "again"))
        ]
        architectures = [plans["configurations"]["3d_fullres"]["architecture"] for plans in written]
        assert [one.pop("trained_by") for one in architectures] == ["nnUNetTrainerSCD_demo", "nnUNetTrainerSCD"]
        assert written[0] == written[1]

    @pytest.mark.parametrize("content", [{"model": [1, 2]}, [1, 2], {}], ids=str)
    def test_no_weights(self, tmp_path: Path, content: Any) -> None:
        torch.save(content, tmp_path / "weights.pt")
        with pytest.raises(ValueError, match=r"weights.pt holds no state dict, neither flat nor under model"):
            read_weights(tmp_path / "weights.pt")
