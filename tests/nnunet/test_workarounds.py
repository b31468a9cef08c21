"""Bugs of our hosts that we work round. A test that fails here says that a workaround can go."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("nnunetv2")

from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from nnunetv2.training.nnUNetTrainer.variants.lr_schedule.nnUNetTrainer_warmup import nnUNetTrainer_warmup

from scd_plugin.nnunet.trainers import nnUNetTrainerSCD_demo


def test_warm_up_trainers_cannot_read_their_checkpoints(make_trainer: Callable[..., Any], tmp_path: Path) -> None:
    """nnunetv2 2.8.1; see nnUNetTrainerSCD.load_checkpoint."""
    trainer = make_trainer(nnUNetTrainerSCD_demo, initialize=True)
    trainer.logger.log("train_losses", torch.tensor(0.5).numpy()[()], 0)
    trainer.save_checkpoint(str(tmp_path / "c.pth"))
    with pytest.raises(Exception, match=r"[Ww]eights"):
        nnUNetTrainer_warmup.load_checkpoint(trainer, str(tmp_path / "c.pth"))


def test_pretrained_weights_must_have_every_shape(tmp_path: Path) -> None:
    """nnunetv2 2.8.1; see scd_plugin.nnunet.pretrained."""
    torch.save({"network_weights": {"weight": torch.ones(3, 3), "bias": torch.ones(1)}}, tmp_path / "c.pth")
    with pytest.raises(AssertionError, match="shape of the parameters of key weight is not the same"):
        load_pretrained_weights(torch.nn.Linear(1, 1), str(tmp_path / "c.pth"))


def test_primus_trainers_ignore_deep_supervision() -> None:
    """nnunetv2 2.8.1; see nnUNetTrainerSCD.set_deep_supervision_enabled."""
    from nnunetv2.training.nnUNetTrainer.primus.primus_trainers import AbstractPrimus

    assert inspect.getsource(AbstractPrimus.set_deep_supervision_enabled).strip().endswith("pass")


def test_pooling_refuses_small_grids() -> None:
    """PyTorch 2.14; see blocks.decoders._pool."""
    with pytest.raises(RuntimeError, match="smaller than kernel size"):
        torch.nn.functional.avg_pool3d(torch.zeros(1, 1, 3, 2, 3), 3, stride=2, padding=1)
