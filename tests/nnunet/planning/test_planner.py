"""nnU-Net's planning with SCD's memory, on fingerprints instead of images."""

from __future__ import annotations

import json
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("nnunetv2")

from dynamic_network_architectures.architectures.unet import PlainConvUNet
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

from scd_plugin.measure.saved_memory import saved_bytes
from scd_plugin.nnunet.planning import planner
from scd_plugin.nnunet.planning.planned_network import planned_network
from scd_plugin.nnunet.planning.planner import BYTES_PER_UNIT, nnUNetPlannerSCD, nnUNetPlannerSCD_small
from scd_plugin.nnunet.planning.token_sizes import MAX_TOKENS
from scd_plugin.nnunet.trainers import TRAINERS, nnUNetTrainerSCD

DATASET = "Dataset901_Planned"


class Dense(nnUNetPlannerSCD):
    scd_keep_ratio = 1.0


@pytest.fixture
def fingerprint(unplanned: Callable[[str, int], tuple[Path, Path]], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes a data set's fingerprint: 40 cases of one shape and spacing, without label maps to count on."""
    monkeypatch.setattr(nnUNetPlannerSCD, "scd_keep_ratio", "preset")
    raw, preprocessed = unplanned(DATASET, 40)
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
        assert settings["batch_size"] >= 2
        kind, arguments = planned_network(settings)
        assert (kind, arguments["hidden_size"], arguments["keep_ratio"]) == ("SCDUNETR", 384, 0.25)
        tokens = prod(size // edge for size, edge in zip(arguments["img_size"], arguments["patch_size"]))
        assert tokens <= MAX_TOKENS, name
        assert max(arguments["patch_size"]) <= 8, name


@pytest.mark.slow
@pytest.mark.parametrize("planner_class", ["nnUNetPlannerSCD_tiny_fast", "nnUNetPlannerSCDPrimusS"])
@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
def test_the_stock_trainer_builds_what_the_plans_say(fingerprint: Any, configuration: str, planner_class: str) -> None:
    fingerprint([20, 28, 20], [1.0, 1.0, 1.0])
    plans = json.loads(json.dumps(plan(planner.PLANNERS[planner_class]), default=int))
    manager = PlansManager(plans)
    settings = manager.get_configuration(configuration)
    stock = nnUNetTrainer.build_network_architecture(manager, settings, 1, 3, False)
    ours = nnUNetTrainerSCD.build_network_architecture(manager, settings, 1, 3, False)
    assert type(stock) is type(ours)
    assert stock.arguments == ours.arguments
    ours.load_state_dict(stock.state_dict())
    image = torch.randn(1, 1, *settings.patch_size)
    with torch.no_grad():
        assert torch.equal(stock.eval()(image), ours.eval()(image))


@pytest.mark.slow
def test_the_stock_trainer_takes_a_step_with_deep_supervision(fingerprint: Any, tmp_path: Path) -> None:
    fingerprint([20, 28, 20], [1.0, 1.0, 1.0])
    plans = {**plan(planner.PLANNERS["nnUNetPlannerSCD_tiny"]), "continue_training": False}
    dataset = json.loads((tmp_path / "nnUNet_raw" / DATASET / "dataset.json").read_text())
    trainer = nnUNetTrainer(plans, "3d_fullres", 0, dataset, torch.device("cpu"))
    # nnU-Net looks at the files' ending
    folder = Path(trainer.preprocessed_dataset_folder)
    folder.mkdir(parents=True)
    (folder / "case_0.b2nd").touch()
    trainer.initialize()
    crop = plans["configurations"]["3d_fullres"]["patch_size"]
    targets = [
        torch.randint(3, (2, 1, *(round(size * factor) for size, factor in zip(crop, scale)))).float()
        for scale in trainer._get_deep_supervision_scales()
    ]
    loss = trainer.train_step({"data": torch.randn(2, 1, *crop), "target": targets})["loss"]
    assert 0 < loss < 3


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


@pytest.mark.parametrize("changes", [{"preprocessor_name": "Another"}, {"suppress_transpose": True}], ids=str)
def test_data_of_another_preprocessor_lie_apart(fingerprint: Any, changes: dict[str, Any]) -> None:
    fingerprint([100, 100, 100], [1.0, 1.0, 1.0])
    planner = nnUNetPlannerSCD(DATASET, **changes)
    assert planner.generate_data_identifier("3d_fullres") == "nnUNetPlansSCD_3d_fullres"


def test_every_size_of_trainer_has_a_planner() -> None:
    wanted = {name.replace("Trainer", "Planner") for name in TRAINERS if name.startswith("nnUNetTrainerSCDPrimus")}
    wanted |= {f"nnUNetPlannerSCD{size}" for size in ("", "_early", "_fast", "_subvoxel", "_large", "_small")}
    wanted |= {f"nnUNetPlannerSCD_small_{kind}" for kind in ("fast", "subvoxel")}
    assert wanted <= set(planner.__all__)
    assert planner.PLANNERS["nnUNetPlannerSCD_fast"].scd_size == "base-fast"
    assert planner.PLANNERS["nnUNetPlannerSCDPrimusV3S"].scd_size == "primusv3-s"


def test_crop_of_one_slice_is_said(fingerprint: Any, capsys: pytest.CaptureFixture[str]) -> None:
    fingerprint([5, 2000, 2000], [5, 0.05, 0.05])
    assert crop_and_batch(plan(nnUNetPlannerSCD))[0] == [1, 768, 768]
    assert capsys.readouterr().out.count("Crops of 3-D configurations are one slice (1x768x768): 2d does the same") == 1


@pytest.mark.parametrize(
    ("shape", "spacing", "sentence"),
    [
        (
            [5, 2000, 2000],
            [5, 0.05, 0.05],
            "no crop of this data is small enough for nnUNetPlannerSCD_large in 2.8 GB",
        ),
        ([3, 3, 3], [1, 1, 1], r"images of 3x3x3 voxels are too small for tokens of several voxels: train them with"),
    ],
    ids=["no memory", "tiny"],
)
def test_no_crop_that_suits(fingerprint: Any, shape: list[int], spacing: list[float], sentence: str) -> None:
    fingerprint(shape, spacing)
    with pytest.raises(ValueError, match=sentence):
        plan(planner.PLANNERS["nnUNetPlannerSCD_large"])
