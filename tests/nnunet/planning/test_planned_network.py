"""Plans that name a network of SCD: written, called by nnU-Net, read back, and held against a trainer's settings."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

pytest.importorskip("nnunetv2")

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from scd_plugin.networks.builder import NETWORKS, build_network, network_arguments
from scd_plugin.networks.presets import PRESETS
from scd_plugin.nnunet import trainers
from scd_plugin.nnunet.planning.planned_network import architecture_of, planned_network

GEOMETRY: dict[str, Any] = {"img_size": (32, 48, 48), "patch_size": (4, 8, 8)}
STRIDES: dict[str, Any] = {"strides": [(1, 2, 2), (2, 2, 2), (2, 2, 2)], "pool_stride": (1, 2, 2)}


def plans_of(kind: str, arguments: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Plans as they lie on disk."""
    crop = list(arguments["img_size"])
    configuration = {"patch_size": crop, "architecture": architecture_of(kind, arguments), **changes}
    plans = {"plans_name": "nnUNetPlansSCD", "configurations": {"3d_fullres": configuration}}
    read: dict[str, Any] = json.loads(json.dumps(plans))
    return read


def build(trainer: Any, plans: dict[str, Any], *, deep_supervision: bool = False) -> Any:
    manager = PlansManager(plans)
    with torch.device("meta"):
        return trainer.build_network_architecture(
            manager, manager.get_configuration("3d_fullres"), 2, 3, deep_supervision
        )


def planned(preset: str, **changes: Any) -> dict[str, Any]:
    return plans_of(*network_arguments(preset, **GEOMETRY, **STRIDES, **changes))


def fingerprint(network: Any) -> tuple[Any, ...]:
    shapes = {name: value.shape for name, value in network.state_dict().items()}
    return shapes, [stage.keep_ratio for stage in network.pruning_stages()], type(network.completion).__name__


class TestBothWays:
    @pytest.mark.parametrize("preset", PRESETS)
    def test_every_trainer_builds_the_network_of_the_preset(self, preset: str) -> None:
        with torch.device("meta"):
            wanted = build_network(preset, 2, 3, **GEOMETRY, **STRIDES)
        for trainer in (nnUNetTrainer, trainers.nnUNetTrainerSCD, trainers.nnUNetTrainerSCD_5epochs):
            assert fingerprint(build(trainer, planned(preset))) == fingerprint(wanted)

    @pytest.mark.parametrize(
        "arguments",
        [
            {"patch_size": 8},
            {"patch_size": 16, "hidden_size": 48, "mlp_dim": 48, "num_heads": 4},
            {"patch_size": (4, 8, 8), **STRIDES},
            {"patch_size": (4, 8, 8), "strides": STRIDES["strides"]},
            {"patch_size": 8, "decoder": "light", "norm_name": "batch"},
            {"patch_size": (4, 8, 8), "decoder": "subvoxel"},
            {"patch_size": 2, "strides": [(2, 2, 2), (1, 1, 1)]},
        ],
        ids=str,
    )
    def test_strides_come_back(self, arguments: dict[str, Any]) -> None:
        full = {"img_size": [32, 32, 32], "num_layers": 4, "prune_after": (1,), "feature_size": 4, **arguments}
        kind, read = planned_network(plans_of("SCDUNETR", full)["configurations"]["3d_fullres"]) or ("", {})
        with torch.device("meta"):
            networks = [NETWORKS[kind](in_channels=2, out_channels=3, **one) for one in (full, read)]
        assert fingerprint(networks[0]) == fingerprint(networks[1])
        assert networks[0].output_scales() == networks[1].output_scales()

    def test_nnunets_own_notation(self) -> None:
        architecture = architecture_of("SCDUNETR", {**GEOMETRY, **STRIDES})
        assert architecture["network_class_name"] == "scd_plugin.nnunet.planning.planned_network.scd_unetr"
        assert architecture["arch_kwargs"]["strides"] == [[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 2, 2], [1, 2, 2]]
        assert not {"in_channels", "out_channels", "deep_supervision", "pool_stride"} & set(architecture["arch_kwargs"])
        json.dumps(architecture)

    def test_deep_supervision(self) -> None:
        for trainer in (nnUNetTrainer, trainers.nnUNetTrainerSCD):
            assert len(build(trainer, planned("tiny"), deep_supervision=True).decoder.heads) == 3
        with pytest.raises(
            ValueError, match="deep supervision must be off for SCD-Primus, whose decoder has one output"
        ):
            build(nnUNetTrainer, planned("primus-s"), deep_supervision=True)

    def test_other_networks_are_none_of_ours(self) -> None:
        unet = {"network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet"}
        assert planned_network({"patch_size": [8], "architecture": unet}) is None
        assert planned_network({"patch_size": [8]}) is None

    def test_a_crop_that_was_changed_by_hand(self) -> None:
        plans = plans_of(*network_arguments("tiny", **GEOMETRY), patch_size=[32, 48, 64])
        with pytest.raises(
            ValueError, match=r"patch_size \[32, 48, 64\] in the plans differs from img_size \[32, 48, 48\]"
        ):
            build(trainers.nnUNetTrainerSCD, plans)


class Gentle(trainers.nnUNetTrainerSCD):
    scd_keep_ratio = 0.5


class GentleTiny(Gentle):
    scd_size = "tiny"


class NoPrior(trainers.nnUNetTrainerSCDPrimusS):  # type: ignore[valid-type, misc]
    scd_prior = None


class TestContradictions:
    @pytest.mark.parametrize(
        ("trainer", "preset", "changes"),
        [
            (trainers.nnUNetTrainerSCD_small, "small", {}),
            (trainers.nnUNetTrainerSCD_early, "base-early", {}),
            (trainers.nnUNetTrainerSCD_dense, "base", {"keep_ratio": 1}),
            (Gentle, "small", {"keep_ratio": [0.5, 0.5, 0.5]}),
            (GentleTiny, "tiny", {"keep_ratio": 0.5}),
            # counted by the planner
            (trainers.nnUNetTrainerSCD_small, "small", {"keep_ratio": 0.62}),
            (trainers.nnUNetTrainerSCD_early, "base-early", {"keep_ratio": [0.6, 0.5, 0.5, 0.5]}),
            # acts in training alone
            (trainers.nnUNetTrainerSCD_small, "small", {"drop_path_rate": 0.3}),
            (trainers.nnUNetTrainerSCDPrimusV3S, "primusv3-s", {}),
            (NoPrior, "primus-s", {"prior": None}),
        ],
        ids=str,
    )
    def test_none(self, trainer: Any, preset: str, changes: dict[str, Any]) -> None:
        assert build(trainer, planned(preset, **changes)).image_shape == [2, 32, 48, 48]

    @pytest.mark.parametrize(
        ("trainer", "preset", "changes", "message"),
        [
            (
                trainers.nnUNetTrainerSCD_dense,
                "base",
                {},
                r"keep_ratio is 0.25 in the plans and 1.0 in nnUNetTrainerSCD_d",
            ),
            (Gentle, "small-fast", {}, r"keep_ratio is \[0.4, 0.25, 0.25, 0.25\] in the plans and 0.5 in Gentle"),
            (
                trainers.nnUNetTrainerSCD_large,
                "small",
                {},
                r"hidden_size is 384 in the plans and 1024 in .*; mlp_dim is",
            ),
            (trainers.nnUNetTrainerSCDPrimusS, "primus-m", {}, r"size is M in the plans and S"),
            (NoPrior, "primus-s", {}, r"prior is entropy in the plans and None"),
            (
                trainers.nnUNetTrainerSCDPrimusS,
                "small",
                {},
                r"plans name the network SCDUNETR, and .* trains SCDPrimus",
            ),
            (
                trainers.nnUNetTrainerSCD_small,
                "primus-s",
                {},
                r"plans name the network SCDPrimus, and .* trains SCDUNETR",
            ),
        ],
        ids=str,
    )
    def test_one_sentence(self, trainer: Any, preset: str, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=rf"{message}.*Train with nnUNetTrainerSCD, which builds what") as error:
            build(trainer, planned(preset, **changes))
        assert "\n" not in str(error.value)


class TestWithoutThem:
    """Plans of nnU-Net's own planners: the trainer's preset decides, keep ratios included."""

    @pytest.mark.parametrize("preset", [name for name, preset in PRESETS.items() if preset.network == "SCDUNETR"])
    def test_a_subclass_with_nothing_but_a_size(self, preset: str) -> None:
        unet = {"arch_kwargs": {"strides": [[1, 1, 1], *STRIDES["strides"], STRIDES["pool_stride"]]}}
        configuration = {"patch_size": [64, 96, 96], "architecture": unet}
        plans = {"plans_name": "nnUNetPlans", "configurations": {"3d_fullres": configuration}}
        with torch.device("meta"):
            wanted = build_network(preset, 2, 3, (64, 96, 96), (4, 8, 8), **STRIDES)
        built = build(type("Mine", (trainers.nnUNetTrainerSCD,), {"scd_size": preset}), plans)
        assert fingerprint(built) == fingerprint(wanted)
        assert type(built.decoder) is type(wanted.decoder)
