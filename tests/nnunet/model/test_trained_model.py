"""Model folders that stock trainers and ours have written; what is refused is tested through the commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("nnunetv2")

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

from scd_plugin.folders import choose_folds
from scd_plugin.nnunet.model import trained_network as network_module
from scd_plugin.nnunet.model.trained_model import ModelFolder
from scd_plugin.nnunet.model.trained_network import build_network, find_any_trainer
from scd_plugin.nnunet.trainers import nnUNetTrainerSCD_demo
from scd_plugin.nnunet.trainers.inner_network import unwrapped


@pytest.mark.parametrize(
    ("found", "wanted", "chosen"),
    [
        (["all", "1", "0"], [], ["0", "1"]),
        (["all"], [], ["all"]),
        (["0", "1", "all"], ["all"], ["all"]),
        (["0", "10", "2"], [], ["0", "2", "10"]),
        (["0", "1"], ["1", "0", "1"], ["1", "0"]),
    ],
)
def test_choose_folds(found: list[str], wanted: list[str], chosen: list[str]) -> None:
    assert choose_folds(found, wanted) == chosen


UNET: dict[str, Any] = {
    "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "arch_kwargs": {
        "n_stages": 2,
        "features_per_stage": [4, 8],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3], [3, 3, 3]],
        "strides": [[1, 1, 1], [2, 2, 2]],
        "n_conv_per_stage": [1, 1],
        "n_conv_per_stage_decoder": [1],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    },
    "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
}


@pytest.fixture
def written(make_trainer: Callable[..., Any], tmp_path: Path) -> Callable[[type], tuple[Path, Any]]:
    """Writes a model folder with the checkpoint that a trainer of this class saves after an epoch."""

    def write(trainer: type) -> tuple[Path, Any]:
        architecture = UNET if trainer is nnUNetTrainer else None
        made = make_trainer(trainer, edge=16, architecture=architecture, initialize=True)
        # set where a training begins
        made.inference_allowed_mirroring_axes = (0, 1, 2)
        made.logger.log("train_losses", torch.tensor(0.5).numpy()[()], 0)
        folder = tmp_path / f"{trainer.__name__}__nnUNetPlans__3d_fullres"
        (folder / "fold_0").mkdir(parents=True)
        made.save_checkpoint(str(folder / "fold_0" / "checkpoint_final.pth"))
        (folder / "plans.json").write_text(json.dumps(made.plans_manager.plans))
        (folder / "dataset.json").write_text(json.dumps(made.dataset_json))
        return folder, made

    return write


@pytest.mark.parametrize("trainer", [nnUNetTrainer, nnUNetTrainerSCD_demo])
def test_what_a_trainer_saved(written: Callable[[type], tuple[Path, Any]], trainer: type) -> None:
    folder, made = written(trainer)
    model = ModelFolder.read(folder)
    assert (model.trainer_name, model.configuration, model.folds) == (trainer.__name__, "3d_fullres", ("0",))
    assert model.mirror_axes == (0, 1, 2)
    network = build_network(model)
    assert not network.state_dict().keys() - unwrapped(made.network).state_dict().keys()
    for name, value in network.state_dict().items():
        assert torch.equal(value, unwrapped(made.network).state_dict()[name]), name


def test_trainer_that_is_not_there(written: Callable[[type], tuple[Path, Any]]) -> None:
    folder, _ = written(nnUNetTrainerSCD_demo)
    with pytest.raises(ValueError, match=r"trainer nnUNetTrainerOfSomeone is not found.*set nnUNet_extTrainer"):
        build_network(replace(ModelFolder.read(folder), trainer_name="nnUNetTrainerOfSomeone"))


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("from torch import no_such_name", "ImportError: cannot import name 'no_such_name' from 'torch'"),
        ("class nnUNetTrainerOfSomeone(nnUNetTrainer): ...", "NameError: name 'nnUNetTrainer' is not defined"),
        ("class nnUNetTrainerOfSomeone(", "SyntaxError: "),
        ("raise RuntimeError('no licence')", "RuntimeError: no licence"),
        ("class nnUNetTrainerOfSomeone: ...", "AssertionError: The requested nnunet trainer class must inherit from"),
    ],
    ids=["package", "name", "class", "syntax", "runtime", "no trainer"],
)
def test_module_that_fails(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    module: str,
    reason: str,
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "mine.py").write_text(module)
    monkeypatch.setenv("nnUNet_extTrainer", str(tmp_path / "own"))
    with pytest.raises(
        ValueError,
        match=f"^nnU-Net's search for trainer nnUNetTrainerOfSomeone fails with {reason}.*scd doctor names the file",
    ):
        find_any_trainer("nnUNetTrainerOfSomeone")
    assert capsys.readouterr() == ("", "")


def test_weights_of_another_network(written: Callable[[type], tuple[Path, Any]]) -> None:
    folder, _ = written(nnUNetTrainerSCD_demo)
    with pytest.raises(ValueError, match=r"weights of fold 0 in .* do not fit what nnUNetTrainerSCD_dense builds: "):
        build_network(replace(ModelFolder.read(folder), trainer_name="nnUNetTrainerSCD_dense"))


def test_builder_of_an_older_nnunet(
    written: Callable[[type], tuple[Path, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, made = written(nnUNetTrainer)

    class Old(nnUNetTrainer):
        @staticmethod
        def build_network_architecture(
            architecture_class_name: str,
            arch_init_kwargs: dict[str, Any],
            arch_init_kwargs_req_import: list[str],
            num_input_channels: int,
            num_output_channels: int,
            enable_deep_supervision: bool = True,
        ) -> torch.nn.Module:
            return get_network_from_plans(
                architecture_class_name,
                arch_init_kwargs,
                arch_init_kwargs_req_import,
                num_input_channels,
                num_output_channels,
                deep_supervision=enable_deep_supervision,
            )

    monkeypatch.setattr(network_module, "find_any_trainer", lambda _: Old)
    built = build_network(ModelFolder.read(folder))
    image = torch.randn(1, 1, 16, 16, 16)
    built.eval()
    assert built(image).shape == (1, 3, 16, 16, 16)
    assert torch.equal(next(built.parameters()), next(unwrapped(made.network).parameters()))
