"""nnU-Net's own planners say what its U-Nets look like."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip("nnunetv2")

from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.experiment_planning.experiment_planners.residual_unets.residual_encoder_unet_planners import (
    nnUNetPlannerResEncL,
)
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

from scd_plugin.bench.builders import monai, unet

DATASET = "Dataset902_Planned"
# a planner whose memory target is never reached keeps the crop that it starts with: the size of the images
PLENTY = 10_000.0


@pytest.fixture
def plan(unplanned: Callable[[str, int], tuple[Path, Path]]) -> Any:
    """nnU-Net's own network for a crop, without memory."""
    _, preprocessed = unplanned(DATASET, 1)
    (preprocessed / "dataset_fingerprint.json").write_text("{}")

    def network(planner_class: type[ExperimentPlanner], crop: list[int], spacing: list[float]) -> nn.Module:
        planner = planner_class(DATASET, gpu_memory_target_in_gb=PLENTY)
        planner.static_estimate_VRAM_usage = lambda *_: 1  # of no interest, and slow
        planner.determine_normalization_scheme_and_whether_mask_is_used_for_norm = lambda: ([], [])
        plans = planner.get_plans_for_configuration(spacing, crop, "any", 1e9, {})
        assert tuple(plans["patch_size"]) == tuple(crop)
        found = plans["architecture"]
        with torch.device("meta"):
            built: nn.Module = get_network_from_plans(
                found["network_class_name"], found["arch_kwargs"], found["_kw_requires_import"], 1, 2, False
            )
        return built

    return network


@pytest.mark.parametrize(
    ("crop", "spacing"),
    [([96, 96, 96], [1.0, 1.0, 1.0]), ([128, 128, 128], [1.0, 1.0, 1.0]), ([20, 320, 256], [3.0, 0.6, 0.6])],
    ids=["BTCV", "BraTS", "anisotropic"],
)
@pytest.mark.parametrize(
    ("planner", "residual"), [(ExperimentPlanner, False), (nnUNetPlannerResEncL, True)], ids=["default", "ResEnc-L"]
)
@pytest.mark.filterwarnings("ignore:WARNING. You are running nnUNetPlanner")
def test_as_nnunet_plans_it(
    plan: Any, planner: type[ExperimentPlanner], residual: bool, crop: list[int], spacing: list[float]
) -> None:
    theirs = plan(planner, crop, spacing)
    with torch.device("meta"):
        ours = unet(in_channels=1, out_channels=2, img_size=crop, spacing=spacing, residual=residual)
    assert type(ours) is type(theirs)
    # names, classes and settings of every layer
    assert str(ours) == str(theirs)
    weights, wanted = ours.state_dict(), theirs.state_dict()
    assert {name: tensor.shape for name, tensor in weights.items()} == {
        name: tensor.shape for name, tensor in wanted.items()
    }


def test_deep_supervision_is_off_unless_asked_for() -> None:
    asked = {"in_channels": 1, "out_channels": 2, "img_size": (32, 32, 32), "residual": False}
    with torch.device("meta"):
        alone, several = unet(**asked), unet(**asked, deep_supervision=True)  # type: ignore[arg-type]
    assert (alone.decoder.deep_supervision, several.decoder.deep_supervision) == (False, True)  # type: ignore[union-attr]


def test_a_crop_that_nnunet_would_pad_is_refused() -> None:
    with pytest.raises(ValueError, match=r"for a crop of 100x96x96 pools it down to an odd size; .* take 112x96x96"):
        unet(in_channels=1, out_channels=2, img_size=(100, 96, 96), residual=False)


def test_any_network_of_monai_is_built_by_its_name() -> None:
    network = monai("SegResNet", in_channels=1, out_channels=3, img_size=(16, 16, 16), init_filters=8)
    assert type(network).__name__ == "SegResNet"
    assert network(torch.zeros(1, 1, 16, 16, 16)).shape == (1, 3, 16, 16, 16)
