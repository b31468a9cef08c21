"""The plans beside a trained model: prediction builds from them what was trained, whatever presets say by then."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("nnunetv2")

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from scd_plugin import SCDUNETR
from scd_plugin.networks import presets
from scd_plugin.nnunet import trainers
from scd_plugin.nnunet.trainers.trained_plans import as_trained, trained_plans, with_other_folds
from scd_plugin.whole_files import write_json

MakeTrainer = Callable[..., Any]
TRAINERS = [name for name in trainers.__all__ if name.startswith("nnUNetTrainer")]
PLANS = {
    "dataset_name": "Dataset901_Test",
    "configurations": {
        "3d_fullres": {
            "patch_size": [32, 64, 64],
            "batch_size": 2,
            "architecture": {"arch_kwargs": {"strides": [[1, 1, 1], [1, 2, 2], *[[2, 2, 2]] * 3]}},
        },
        "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
    },
}


def build(trainer: Any, plans: dict[str, Any], configuration: str = "3d_fullres") -> Any:
    manager = PlansManager(plans)
    with torch.device("meta"):
        deep = trainer.scd_deep_supervision
        return trainer.build_network_architecture(manager, manager.get_configuration(configuration), 2, 3, deep)


@pytest.mark.parametrize("name", TRAINERS)
@pytest.mark.parametrize("configuration", PLANS["configurations"])
def test_prediction_builds_what_was_trained(name: str, configuration: str) -> None:
    trainer = getattr(trainers, name)
    trained = build(trainer, PLANS, configuration)
    plans = trained_plans(PLANS, configuration, trained, name)
    again = build(trainer, plans, configuration)
    ratios, as_trained = ([stage.keep_ratio for stage in net.pruning_stages()] for net in (again, trained))
    assert ratios == as_trained
    assert {key: value.shape for key, value in again.state_dict().items()} == {
        key: value.shape for key, value in trained.state_dict().items()
    }
    assert again.grid_size == trained.grid_size
    # everything else in the plans is as it was, and they themselves are
    other = next(one for one in PLANS["configurations"] if one != configuration)
    assert plans["configurations"][other] == PLANS["configurations"][other]
    assert "trained_by" not in str(PLANS)


def test_a_preset_that_changes_later_changes_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer: Any = trainers.nnUNetTrainerSCDPrimusS
    plans = trained_plans(PLANS, "3d_fullres", build(trainer, PLANS), trainer.__name__)
    preset = presets.PRESETS["primus-s"]
    later = preset._replace(arguments={**preset.arguments, "keep_ratio": 0.125, "prune_after": (4,)})
    monkeypatch.setattr(presets, "PRESETS", {**presets.PRESETS, "primus-s": later})
    assert [stage.keep_ratio for stage in build(trainer, PLANS).pruning_stages()] == [0.125]
    model = build(trainer, plans)
    assert [stage.keep_ratio for stage in model.pruning_stages()] == [0.5]
    assert model.arguments["prune_after"] is None


def test_settings_of_another_trainer_are_still_refused() -> None:
    plans = trained_plans(PLANS, "3d_fullres", build(trainers.nnUNetTrainerSCD, PLANS), "nnUNetTrainerSCD")
    assert plans["configurations"]["3d_fullres"]["architecture"]["trained_by"] == "nnUNetTrainerSCD"
    with pytest.raises(ValueError, match="hidden_size is 768 in the plans and 384 in nnUNetTrainerSCD_small"):
        build(trainers.nnUNetTrainerSCD_small, plans)


class Small(trainers.nnUNetTrainerSCDPrimusS):  # type: ignore[valid-type, misc]
    scd_patch_size = 4


def test_a_token_size_that_contradicts_the_plans_is_refused(make_trainer: MakeTrainer) -> None:
    plans = trained_plans(PLANS, "3d_fullres", build(trainers.nnUNetTrainerSCDPrimusS, PLANS), "another")
    # older versions trained what the plans say
    assert build(Small, plans).arguments["patch_size"] == [4, 8, 8]
    architecture = plans["configurations"]["3d_fullres"]["architecture"]
    architecture["arch_kwargs"]["img_size"] = [64, 64, 64]
    with pytest.raises(ValueError, match=r"patch_size is \[4, 8, 8\] in the plans and 4 in Small"):
        make_trainer(Small, edge=64, architecture=architecture, initialize=True)
    plans = trained_plans(PLANS, "3d_fullres", build(Small, PLANS), "another")
    assert build(Small, plans).arguments["patch_size"] == [4, 4, 4]


def test_networks_of_others_are_none_of_ours() -> None:
    assert trained_plans(PLANS, "3d_fullres", torch.nn.Linear(1, 1), "nnUNetTrainer") == PLANS


@pytest.mark.parametrize("configuration", PLANS["configurations"])
def test_the_crop_that_was_trained_is_kept(configuration: str) -> None:
    """A trainer of the user's may have changed it for itself."""
    changed = json.loads(json.dumps(PLANS))
    crop = [2 * edge for edge in PlansManager(PLANS).get_configuration(configuration).patch_size]
    changed["configurations"][configuration]["patch_size"] = crop
    network = build(trainers.nnUNetTrainerSCDPrimusS, changed, configuration)
    kept = trained_plans(PLANS, configuration, network, "nnUNetTrainerSCDPrimusS")
    assert kept["configurations"][configuration]["patch_size"] == crop
    again = build(trainers.nnUNetTrainerSCDPrimusS, kept, configuration)
    assert again.grid_size == network.grid_size


class OfOthers(trainers.nnUNetTrainerSCD_demo):
    @staticmethod
    def build_network_architecture(plans_manager: Any, *_: Any) -> torch.nn.Module:  # noqa: ARG004
        return torch.nn.Conv3d(1, 3, 1)


class OwnUNETR(SCDUNETR):
    def __init__(self) -> None:
        super().__init__(1, 3, 32, hidden_size=48, num_layers=2, num_heads=2, prune_after=(1,), keep_ratio=0.5)


class Own(trainers.nnUNetTrainerSCD_demo):
    @staticmethod
    def build_network_architecture(plans_manager: Any, *_: Any) -> torch.nn.Module:  # noqa: ARG004
        return OwnUNETR()


@pytest.mark.parametrize(("trainer", "name"), [(OfOthers, "Conv3d"), (Own, "OwnUNETR")])
def test_trainers_with_networks_of_their_own(make_trainer: MakeTrainer, trainer: Any, name: str) -> None:
    made = make_trainer(trainer, initialize=True)
    assert f"network: {name}, of this trainer's own" in Path(made.log_file).read_text()


def test_settings_that_json_does_not_know() -> None:
    class Ours(trainers.nnUNetTrainerSCDPrimusS):  # type: ignore[valid-type, misc]
        scd_prune_after = range(2, 9, 3)
        scd_keep_ratio = (np.float32(0.5), 0.5, np.float64(0.25))

    plans = trained_plans(PLANS, "3d_fullres", build(Ours, PLANS), "Ours")
    arguments = json.loads(json.dumps(plans))["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    assert (arguments["prune_after"], arguments["keep_ratio"]) == ([2, 5, 8], [0.5, 0.5, 0.25])


def demo_plans(network: Any) -> dict[str, Any]:
    return trained_plans(PLANS, "3d_fullres", network, "nnUNetTrainerSCD_demo")


def test_goes_on_as_trained() -> None:
    network = build(trainers.nnUNetTrainerSCD_demo, PLANS)
    assert as_trained(network, demo_plans(network), "3d_fullres", "checkpoint a") == ""
    # one number stands for each stage
    listed = demo_plans(network)
    listed["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["keep_ratio"] = [0.25] * 3
    assert as_trained(network, listed, "3d_fullres", "checkpoint a") == ""
    for unknown in (None, {}, PLANS, [], {"configurations": {"3d_fullres": {"architecture": 3}}}):
        assert as_trained(network, unknown, "3d_fullres", "checkpoint a") == (
            "checkpoint a does not say with which keep ratio it was trained: this training has [0.25, 0.25, 0.25]; "
            "make sure that they are the same"
        )
    assert as_trained(torch.nn.Linear(1, 1), PLANS, "3d_fullres", "checkpoint a") == ""
    trained = demo_plans(network)
    network.set_keep_ratio(0.5)
    assert as_trained(network, trained, "3d_fullres", "checkpoint a") == (
        "checkpoint a was trained with keep_ratio 0.25, which is 0.5 in these settings; it stays at 0.25"
    )
    assert [stage.keep_ratio for stage in network.pruning_stages()] == [0.25] * 3
    network.arguments["sampling"] = "random"
    with pytest.raises(
        ValueError, match="checkpoint a was trained with sampling soft_topk, which is random in this train"
    ):
        as_trained(network, trained, "3d_fullres", "checkpoint a")


def test_plans_from_before_regions_were_known() -> None:
    network = build(trainers.nnUNetTrainerSCDPrimusS, PLANS)
    plans = trained_plans(PLANS, "3d_fullres", network, "nnUNetTrainerSCDPrimusS")
    del plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["regions"]
    assert as_trained(network, plans, "3d_fullres", "checkpoint a") == ""
    network.set_regions(True)
    assert as_trained(network, plans, "3d_fullres", "checkpoint a") == (
        "checkpoint a was trained with regions False, which is True in these settings; it stays at False"
    )
    assert (network.regions, network.arguments["regions"]) == (False, False)


def test_a_stage_that_keeps_all_was_never_built() -> None:
    class Late(trainers.nnUNetTrainerSCD_demo):
        scd_keep_ratio = (1.0, 0.5, 0.5)

    class Later(trainers.nnUNetTrainerSCD_demo):
        scd_keep_ratio = (1.0, 0.25, 0.125)

    network = build(Later, PLANS)
    line = as_trained(network, demo_plans(build(Late, PLANS)), "3d_fullres", "checkpoint a")
    assert line.endswith("it stays at [1.0, 0.5, 0.5]")
    assert [stage.keep_ratio for stage in network.pruning_stages()] == [0.5, 0.5]


def test_folds_of_one_model_are_of_one_network(tmp_path: Any) -> None:
    network = build(trainers.nnUNetTrainerSCD_demo, PLANS)
    fold, other = tmp_path / "fold_1", tmp_path / "fold_0"
    other.mkdir()
    write_json(tmp_path / "plans.json", demo_plans(network))
    network.set_keep_ratio(0.5)
    # begun, and nothing saved yet
    assert with_other_folds(fold, "3d_fullres", network) == ""
    (tmp_path / "fold_0_old").mkdir()
    (tmp_path / "fold_0_old" / "checkpoint_final.pth").touch()
    assert with_other_folds(fold, "3d_fullres", network) == ""
    (other / "checkpoint_best.pth").touch()
    with pytest.raises(ValueError, match=r"fold_0 in .* was trained with keep_ratio 0.25, which is 0.5 in this train"):
        with_other_folds(fold, "3d_fullres", network)
    # a new start of that fold itself
    assert with_other_folds(other, "3d_fullres", network) == ""
    unknown = "plans.json does not say with which keep ratio fold_0 was trained: this training has [0.5, 0.5, 0.5]; "
    for plans in ("{", json.dumps(PLANS)):
        (tmp_path / "plans.json").write_text(plans)
        assert with_other_folds(fold, "3d_fullres", network).startswith(unknown)


def test_training_leaves_its_network_in_plans_and_checkpoint(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    trainer = make_trainer(trainers.nnUNetTrainerSCD_demo, initialize=True)
    saved: list[Any] = []
    # nnU-Net saves the trainer's plans there
    monkeypatch.setattr(nnUNetTrainer, "on_train_start", lambda self: saved.append(self.plans_manager.plans))
    fold, model = Path(trainer.output_folder), Path(trainer.output_folder).parent
    (model / "fold_3").mkdir(parents=True)
    (model / "fold_3" / "checkpoint_final.pth").touch()
    write_json(model / "plans.json", demo_plans(build(Half, PLANS)))
    with pytest.raises(ValueError, match=r"fold_3 in .* was trained with .*keep_ratio 0.5, which is 0.25"):
        trainer.on_train_start()
    assert not saved
    assert fold.name == "fold_0"
    (model / "fold_3" / "checkpoint_final.pth").unlink()
    trainer.on_train_start()
    architecture = saved[0]["configurations"]["3d_fullres"]["architecture"]
    assert architecture["arch_kwargs"]["keep_ratio"] == 0.25
    assert architecture["trained_by"] == "nnUNetTrainerSCD_demo"

    trainer.current_epoch = 3
    trainer.save_checkpoint(str(tmp_path / "c.pth"))
    other = make_trainer(Half, initialize=True)
    other.load_checkpoint(str(tmp_path / "c.pth"))
    assert [stage.keep_ratio for stage in other.network.pruning_stages()] == [0.25] * 3
    with other.drawn.at(0):
        assert [stage.keep_ratio for stage in other.network.pruning_stages()] != [0.25] * 3
    assert [stage.keep_ratio for stage in other.network.pruning_stages()] == [0.25] * 3

    # plans of a model, taken for a training, are held against its settings again
    with pytest.raises(ValueError, match=r"keep_ratio is 0.25 in the plans and 0.5 in Half"):
        make_trainer(Half, architecture={**architecture, "trained_by": "Half"}, initialize=True)


class Half(trainers.nnUNetTrainerSCD_demo):
    scd_keep_ratio = 0.5
    scd_keep_ratios = (0.5, 0.75)
