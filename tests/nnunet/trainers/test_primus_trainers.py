"""The twelve trainers of SCD-Primus: what their names say, what they share with nnU-Net's own, and that they train."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("nnunetv2")

from nnunetv2.training.nnUNetTrainer.primus import primus_trainers
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from scd_plugin import SCDPrimus
from scd_plugin.nnunet import trainers
from scd_plugin.nnunet.trainers.inner_network import unwrapped
from scd_plugin.nnunet.trainers.trained_plans import trained_plans

MakeTrainer = Callable[..., Any]
NAMES = [f"{version}{size}" for version in ("", "V2", "V3") for size in "SBML"]
# nnU-Net puts an underscore between name and size in version 1 alone
STOCK = {name: f"nnUNet_Primus{name if name.startswith('V') else f'_{name}'}_Trainer" for name in NAMES}
PLANS = {
    "dataset_name": "Dataset901_Test",
    "plans_name": "nnUNetPlans",
    "configurations": {
        "3d_fullres": {
            "patch_size": [64, 64, 64],
            "architecture": {"arch_kwargs": {"strides": [[1, 1, 1], *[[2, 2, 2]] * 4]}},
        },
        "2d": {"patch_size": [56, 40], "architecture": {"arch_kwargs": {"strides": [[1, 1], *[[2, 2]] * 3]}}},
    },
}


def build(trainer: type, configuration: str = "3d_fullres") -> Any:
    plans = PlansManager(PLANS)
    with torch.device("meta"):
        return trainer.build_network_architecture(plans, plans.get_configuration(configuration), 1, 3, False)


def trainer_of(name: str) -> Any:
    return getattr(trainers, f"nnUNetTrainerSCDPrimus{name}")


@pytest.mark.parametrize("name", NAMES)
def test_is_stock_primus_with_pruning(name: str) -> None:
    class Dense(trainer_of(name)):  # type: ignore[misc]
        scd_keep_ratio = 1.0

    stock = build(getattr(primus_trainers, STOCK[name]))
    ours, theirs = build(Dense).state_dict(), stock.state_dict()
    assert {key: value.shape for key, value in ours.items()} == {key: value.shape for key, value in theirs.items()}
    net = build(trainer_of(name))
    assert [stage.keep_ratio for stage in net.stages] == [0.5]
    drop_rates = [[block.drop_path1 for block in one.eva.blocks][-1].drop_prob for one in (net, stock)]
    assert drop_rates == [0.2, 0.2]


@pytest.mark.parametrize("name", NAMES)
def test_found_as_nnunet_looks(name: str) -> None:
    found = recursive_find_trainer_class_by_name(f"nnUNetTrainerSCDPrimus{name}")
    assert found is trainer_of(name)
    assert found.__name__ == f"nnUNetTrainerSCDPrimus{name}"
    assert (found.scd_version, found.scd_size) == (int(name[1]) if name[0] == "V" else 1, name[-1])


def test_2d() -> None:
    net = build(trainers.nnUNetTrainerSCDPrimusV3S, "2d")
    assert (net.image_shape, net.grid_size) == ([1, 56, 40], [14, 10])


def test_optimiser_and_schedule_are_those_of_nnunets_primus(make_trainer: MakeTrainer) -> None:
    made = [make_trainer(kind) for kind in (trainers.nnUNetTrainerSCDPrimusM, primus_trainers.nnUNet_Primus_M_Trainer)]
    for trainer in made:
        trainer.network = torch.nn.Linear(2, 2)
        trainer.optimizer, trainer.lr_scheduler = trainer.configure_optimizers("warmup_all")
    ours, theirs = (trainer.optimizer.defaults for trainer in made)
    assert type(made[0].optimizer) is type(made[1].optimizer)
    assert {key: ours[key] for key in theirs} == theirs
    for name in ("num_epochs", "warmup_duration_whole_net", "initial_lr", "weight_decay", "enable_deep_supervision"):
        assert getattr(made[0], name) == getattr(made[1], name), name


def test_deep_supervision_is_refused() -> None:
    class Deep(trainers.nnUNetTrainerSCDPrimusS):  # type: ignore[valid-type, misc]
        scd_deep_supervision = True

    with pytest.raises(ValueError, match=r"scd_deep_supervision must be False for SCDPrimus.*got True"):
        build(Deep)


class Quick(trainers.nnUNetTrainerSCDPrimusS):  # type: ignore[valid-type, misc]
    scd_patch_size = 8
    scd_prune_after = (3, 6)
    scd_num_epochs = 20


def test_settings_of_a_subclass(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(Quick)
    assert (trainer.num_epochs, trainer.enable_deep_supervision) == (20, False)
    net = build(Quick)
    assert net.grid_size == [8, 8, 8]
    assert [stage.after_block for stage in net.stages] == [3, 6]
    assert net.prior == "entropy"


class Narrow(trainers.nnUNetTrainerSCDPrimusM):  # type: ignore[valid-type, misc]
    scd_completion = "assembly_to_kept"
    scd_completion_hidden_size = 432


def test_narrow_completion() -> None:
    for trainer, width, to_kept in ((trainers.nnUNetTrainerSCDPrimusM, 864, False), (Narrow, 432, True)):
        completion = build(trainer).completion
        assert completion.project[0].out_features == width
        assert completion.refine.attend_kept == to_kept


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scd_completion": "mae"}, "completion must be one of assembly, assembly_to_kept, .*; got 'mae'"),
        ({"scd_completion_hidden_size": 100}, "completion_hidden_size must be divisible by num_heads.*got 100 and 6"),
    ],
    ids=str,
)
def test_completion_that_there_is_not(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(type("Wrong", (trainers.nnUNetTrainerSCDPrimusS,), settings))


@pytest.mark.parametrize("regions", [False, True])
def test_regions(make_trainer: MakeTrainer, regions: bool) -> None:
    """The score that is not learned, the entropy of an early look, is that of regions where labels are."""
    trainer = make_trainer(Quick, initialize=True, regions={"whole": [1, 2], "core": 2} if regions else None)
    assert unwrapped(trainer.network).regions is regions
    plans = trained_plans(trainer.plans_manager.plans, "3d_fullres", trainer.network, "Quick")
    assert plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["regions"] is regions


@pytest.mark.parametrize("kind", ["V2S", "V3S", "S"])
def test_a_step_in_2d(kind: str) -> None:
    """On the plans that nnU-Net makes of hippocampus slices."""

    class Short(trainer_of(kind)):  # type: ignore[misc]
        scd_completion = "assembly_to_kept"
        scd_completion_hidden_size = 66

    configuration = {
        **PLANS["configurations"]["2d"],
        "batch_size": 2,
        "batch_dice": True,
        "spacing": [1.0, 1.0],
        "data_identifier": "nnUNetPlans_2d",
        "preprocessor_name": "DefaultPreprocessor",
    }
    plans = {**PLANS, "label_manager": "LabelManager", "configurations": {"2d": configuration}}
    dataset = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "anterior": 1, "posterior": 2},
        "file_ending": ".nii.gz",
    }
    trainer = Short({**plans, "continue_training": False}, "2d", 0, dataset, torch.device("cpu"))
    folder = Path(trainer.preprocessed_dataset_folder)
    folder.mkdir(parents=True)
    (folder / "case_0.b2nd").touch()
    trainer.initialize()
    assert (trainer.network.image_shape, trainer.network.grid_size) == ([1, 56, 40], [14, 10])
    before = {name: value.clone() for name, value in trainer.network.named_parameters()}
    trainer.on_train_epoch_start()
    data = torch.randn(2, 1, 56, 40)
    batch = {"data": data, "target": torch.randint(0, 3, data.shape).float(), "keys": ["case_1", "case_2"]}
    assert 0 < float(trainer.train_step(batch)["loss"]) < 3
    for name, parameter in trainer.network.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
    moved = [name for name, value in trainer.network.named_parameters() if not torch.equal(value, before[name])]
    assert "eva.blocks.11.mlp.fc2.weight" in moved


@pytest.mark.slow
def test_a_step_and_a_checkpoint(make_trainer: MakeTrainer, tmp_path: Any) -> None:
    trainer = make_trainer(Quick, initialize=True)
    assert isinstance(trainer.network, SCDPrimus)
    trainer.on_train_epoch_start()
    data = torch.randn(2, 1, 32, 32, 32)
    batch = {"data": data, "target": torch.randint(0, 3, data.shape).float(), "keys": ["case_1", "case_2"]}
    losses = [float(trainer.train_step(batch)["loss"]) for _ in range(2)]
    assert all(map(torch.isfinite, torch.tensor(losses)))
    trainer.set_deep_supervision_enabled(False)
    trainer.current_epoch = 3
    trainer.save_checkpoint(str(tmp_path / "c.pth"))
    other = make_trainer(Quick, initialize=True)
    other.load_checkpoint(str(tmp_path / "c.pth"))
    assert other.current_epoch == 4
    for name, value in trainer.network.state_dict().items():
        assert torch.equal(other.network.state_dict()[name], value), name
