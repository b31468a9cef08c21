"""Bugs of our hosts that we work round. A test that fails here says that a workaround can go."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("nnunetv2")

from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from nnunetv2.training.lr_scheduler.warmup import PolyLRScheduler_offset
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.training.nnUNetTrainer.variants.lr_schedule.nnUNetTrainer_warmup import nnUNetTrainer_warmup

from scd_plugin.nnunet.trainers import nnUNetTrainerSCD_demo

STRIDES = [[1, 1, 1], [2, 2, 2], [2, 2, 2]]


def test_warm_up_trainers_cannot_read_their_checkpoints(make_trainer: Callable[..., Any], tmp_path: Path) -> None:
    """nnunetv2 2.8.1; see nnUNetTrainerSCD.load_checkpoint."""
    trainer = make_trainer(nnUNetTrainerSCD_demo, initialize=True)
    trainer.logger.log("train_losses", torch.tensor(0.5).numpy()[()], 0)
    trainer.save_checkpoint(str(tmp_path / "c.pth"))
    with pytest.raises(Exception, match=r"[Ww]eights"):
        nnUNetTrainer_warmup.load_checkpoint(trainer, str(tmp_path / "c.pth"))
    with pytest.raises(UnboundLocalError, match="checkpoint"):
        nnUNetTrainer_warmup.load_checkpoint(trainer, {})


def test_checkpoints_are_written_in_place(
    make_trainer: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nnunetv2 2.8.1, on the first process alone; see PruningTrainer.save_checkpoint."""
    trainer = make_trainer(nnUNetTrainerSCD_demo, initialize=True)
    written: list[str] = []
    monkeypatch.setattr(torch, "save", lambda _, filename: written.append(filename))
    for trainer.local_rank, trainer.disable_checkpointing in ((1, False), (0, True), (0, False)):
        nnUNetTrainer.save_checkpoint(trainer, str(tmp_path / "c.pth"))
    assert written == [str(tmp_path / "c.pth")]


def test_one_epoch_of_warm_up_and_no_other_divides_by_zero() -> None:
    """nnunetv2 2.8.1; see PruningTrainer.configure_optimizers."""
    optimizer = torch.optim.SGD(torch.nn.Linear(1, 1).parameters())
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        PolyLRScheduler_offset(optimizer, 0.01, 1, 1)


def test_nan_becomes_background_in_silence(
    make_trainer: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """nnunetv2 2.8.1; `scd predict` refuses such images, see scd_plugin.nnunet.predict.steps."""
    trainer = make_trainer(nnUNetTrainerSCD_demo, edge=16, initialize=True)
    predictor = nnUNetPredictor(use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False)
    predictor.manual_initialization(
        trainer.network,
        trainer.plans_manager,
        trainer.configuration_manager,
        [trainer.network.state_dict()],
        trainer.dataset_json,
        "nnUNetTrainerSCD_demo",
        None,
    )
    capsys.readouterr()
    logits = predictor.predict_logits_from_preprocessed_data(torch.full((1, 16, 16, 16), torch.nan))
    assert capsys.readouterr().out == ""
    assert torch.isnan(logits).all()
    assert trainer.label_manager.convert_logits_to_segmentation(logits).sum() == 0


def test_old_signature_of_build_network_architecture(make_trainer: Callable[..., Any]) -> None:
    """nnunetv2 2.8.1 still takes it; see scd_plugin.nnunet.model.trained_network."""

    class Old(nnUNetTrainer):
        @staticmethod
        def build_network_architecture(*arguments: Any) -> torch.nn.Module:
            assert arguments == ("a.Class", {"strides": STRIDES}, ["conv_op"], 1, 3, True)
            return torch.nn.Conv3d(1, 3, 1)

    kwargs = {"strides": STRIDES}
    architecture = {"network_class_name": "a.Class", "arch_kwargs": kwargs, "_kw_requires_import": ["conv_op"]}
    with pytest.warns(DeprecationWarning, match="uses the old build_network_architecture signature"):
        trainer = make_trainer(Old, architecture=architecture, initialize=True)
    assert trainer.network.out_channels == 3


def test_pretrained_weights_must_have_every_shape(tmp_path: Path) -> None:
    """nnunetv2 2.8.1; see scd_plugin.nnunet.trainers.pretrained."""
    torch.save({"network_weights": {"weight": torch.ones(3, 3), "bias": torch.ones(1)}}, tmp_path / "c.pth")
    with pytest.raises(AssertionError, match="shape of the parameters of key weight is not the same"):
        load_pretrained_weights(torch.nn.Linear(1, 1), str(tmp_path / "c.pth"))


def test_primus_trainers_ignore_deep_supervision() -> None:
    """nnunetv2 2.8.1; see PruningTrainer.set_deep_supervision_enabled."""
    from nnunetv2.training.nnUNetTrainer.primus.primus_trainers import AbstractPrimus

    assert inspect.getsource(AbstractPrimus.set_deep_supervision_enabled).strip().endswith("pass")


def test_pooling_refuses_small_grids() -> None:
    """PyTorch 2.14; see blocks.decoders._pool."""
    with pytest.raises(RuntimeError, match="smaller than kernel size"):
        torch.nn.functional.avg_pool3d(torch.zeros(1, 1, 3, 2, 3), 3, stride=2, padding=1)
