"""nnU-Net's planning with SCD's memory, on fingerprints instead of images."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("nnunetv2")

from dynamic_network_architectures.architectures.unet import PlainConvUNet
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import nn

from scd_plugin.measure.saved_memory import saved_bytes
from scd_plugin.nnunet.planning import planner
from scd_plugin.nnunet.planning.planner import BYTES_PER_UNIT, nnUNetPlannerSCD, nnUNetPlannerSCD_small
from scd_plugin.nnunet.planning.token_sizes import MAX_TOKENS, network_arguments

DATASET = "Dataset901_Planned"


class Dense(nnUNetPlannerSCD):
    scd_keep_ratio = 1.0


@pytest.fixture
def fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes a data set's fingerprint: 40 cases of one shape and spacing."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, str(tmp_path / name))
    raw, preprocessed = tmp_path / "nnUNet_raw" / DATASET, tmp_path / "nnUNet_preprocessed" / DATASET
    (raw / "imagesTr").mkdir(parents=True)
    (raw / "labelsTr").mkdir()
    preprocessed.mkdir(parents=True)
    description = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "a": 1, "b": 2},
        "numTraining": 40,
        "file_ending": ".nii.gz",
        "overwrite_image_reader_writer": "SimpleITKIO",
    }
    (raw / "dataset.json").write_text(json.dumps(description))
    for number in range(40):
        (raw / "imagesTr" / f"case_{number}_0000.nii.gz").touch()
        (raw / "labelsTr" / f"case_{number}.nii.gz").touch()

    def write(shape: list[int], spacing: list[float]) -> None:
        values = {
            "spacings": [spacing] * 40,
            "shapes_after_crop": [shape] * 40,
            "median_relative_size_after_cropping": 1.0,
            "foreground_intensity_properties_per_channel": {"0": {}},
        }
        (preprocessed / "dataset_fingerprint.json").write_text(json.dumps(values))

    return write


def plan(planner_class: type[ExperimentPlanner], **settings: Any) -> dict[str, Any]:
    plans: dict[str, Any] = planner_class(DATASET, **settings).plan_experiment()
    return plans


def crop_and_batch(plans: dict[str, Any], configuration: str = "3d_fullres") -> tuple[list[int], int]:
    settings = plans["configurations"][configuration]
    return list(settings["patch_size"]), settings["batch_size"]


def voxels(plans: dict[str, Any]) -> int:
    crop, batch = crop_and_batch(plans)
    return prod(crop) * batch


def test_unit_is_that_of_nnunet() -> None:
    def unet() -> nn.Module:
        return PlainConvUNet(
            1, 5, [32, 64, 128, 256, 320], nn.Conv3d, 3, [1, 2, 2, 2, 2], 2, 3, 2, conv_bias=True,
            norm_op=nn.InstanceNorm3d, norm_op_kwargs={"affine": True}, nonlin=nn.LeakyReLU,
            nonlin_kwargs={"inplace": True}, deep_supervision=True,
        )  # fmt: skip

    units = unet().compute_conv_feature_map_size((64, 64, 64))
    assert saved_bytes(unet, (1, 1, 64, 64, 64)) / units == pytest.approx(BYTES_PER_UNIT, rel=0.01)


@pytest.mark.slow
def test_pruning_buys_a_larger_crop_or_batch(fingerprint: Any) -> None:
    fingerprint([250, 250, 250], [1.0, 1.0, 1.0])
    sparse, dense = plan(nnUNetPlannerSCD), plan(Dense)
    assert voxels(sparse) > voxels(dense)
    # as in docs/how-to/plan-for-scd.md
    assert crop_and_batch(sparse) == ([128, 128, 128], 2)
    assert crop_and_batch(dense) == ([128, 112, 112], 2)
    assert crop_and_batch(sparse, "2d") == ([256, 256], 17)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "spacing"),
    [
        ([250, 250, 250], [1.0, 1.0, 1.0]),
        ([20, 320, 320], [3.6, 0.6, 0.6]),
        ([36, 50, 35], [1.0, 1.0, 1.0]),
        ([1, 400, 300], [999.0, 1.0, 1.0]),
    ],
    ids=["CT", "prostate", "hippocampus", "2d"],
)
def test_plans_are_sound(fingerprint: Any, shape: list[int], spacing: list[float]) -> None:
    fingerprint(shape, spacing)
    plans = plan(nnUNetPlannerSCD_small)
    assert plans["plans_name"] == "nnUNetPlansSCD_small"
    assert ("3d_fullres" in plans["configurations"]) is (shape[0] > 1)
    for name, settings in plans["configurations"].items():
        if "patch_size" not in settings:
            continue
        # valid for stock trainers
        assert settings["architecture"]["network_class_name"].endswith("PlainConvUNet")
        assert settings["batch_size"] >= 2
        arguments = network_arguments(settings, size="small")
        tokens = prod(size // edge for size, edge in zip(arguments["img_size"], arguments["patch_size"]))
        assert tokens <= MAX_TOKENS, name
        assert max(arguments["patch_size"]) <= 8, name


@pytest.mark.slow
@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
def test_stock_trainer_takes_a_step_on_the_plans(fingerprint: Any, tmp_path: Path, configuration: str) -> None:
    fingerprint([20, 28, 20], [1.0, 1.0, 1.0])
    plans = {**plan(nnUNetPlannerSCD_small), "continue_training": False}
    dataset = json.loads((tmp_path / "nnUNet_raw" / DATASET / "dataset.json").read_text())
    trainer = nnUNetTrainer(plans, configuration, 0, dataset, torch.device("cpu"))
    # nnU-Net looks at the files' ending
    folder = Path(trainer.preprocessed_dataset_folder)
    folder.mkdir(parents=True)
    (folder / "case_0.b2nd").touch()
    trainer.initialize()
    assert type(trainer.network) is PlainConvUNet

    crop = plans["configurations"][configuration]["patch_size"]
    targets = [
        torch.randint(3, (2, 1, *(round(size * factor) for size, factor in zip(crop, scale)))).float()
        for scale in trainer._get_deep_supervision_scales()
    ]
    before = trainer.network.encoder.stages[0][0].convs[0].conv.weight.detach().clone()
    losses = [trainer.train_step({"data": torch.randn(2, 1, *crop), "target": targets})["loss"] for _ in range(2)]
    assert all(0 < loss < 3 for loss in losses)
    assert not torch.equal(trainer.network.encoder.stages[0][0].convs[0].conv.weight, before)


@pytest.mark.slow
def test_more_memory_more_voxels(fingerprint: Any) -> None:
    fingerprint([250, 250, 250], [1.0, 1.0, 1.0])
    assert voxels(plan(nnUNetPlannerSCD, gpu_memory_target_in_gb=16)) > voxels(plan(nnUNetPlannerSCD))


@pytest.mark.slow
def test_names_and_data(fingerprint: Any) -> None:
    fingerprint([100, 100, 100], [1.0, 1.0, 1.0])
    plans = plan(nnUNetPlannerSCD, plans_name="mine")
    assert plans["plans_name"] == "mine"
    # the same voxels as nnU-Net's default plans have, so they are stored once
    assert plans["configurations"]["3d_fullres"]["data_identifier"] == "nnUNetPlans_3d_fullres"
    respaced = plan(nnUNetPlannerSCD, overwrite_target_spacing=[2.0, 2.0, 2.0])
    assert respaced["configurations"]["3d_fullres"]["data_identifier"] == "nnUNetPlansSCD_3d_fullres"


def test_every_size_of_trainer_has_a_planner() -> None:
    assert planner.__all__ == [f"nnUNetPlannerSCD{size}" for size in ("", "_fast", "_large", "_small")]
