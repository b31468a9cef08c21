"""Training steps at drawn keep ratios, validation and checkpoints at the network's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

pytest.importorskip("nnunetv2")

from scd_plugin.networks.drawn_keep_ratio import drawn_ratio
from scd_plugin.nnunet.trainers import nnUNetTrainerSCD_demo

RATIOS = (0.25, 0.5, 1.0)


class Drawn(nnUNetTrainerSCD_demo):
    scd_keep_ratios = RATIOS
    scd_guide = 0.3


def test_each_step_draws_and_validation_does_not(make_trainer: Callable[..., Any]) -> None:
    trainer = make_trainer(Drawn, initialize=True)
    net = trainer.network
    own, seen = net.arguments["keep_ratio"], []
    net.pruning_stages()[0].register_forward_hook(lambda stage, *_: seen.append(stage.keep_ratio))
    target = torch.zeros(2, 1, 32, 32, 32)
    target[:, :, 6:14] = 1
    batch = {"data": torch.randn(target.shape), "target": target, "keys": ["a", "b"]}
    trainer.current_epoch = 2
    trainer.on_train_epoch_start()
    losses = [float(trainer.train_step(batch)["loss"]) for _ in range(5)]
    assert torch.tensor(losses).isfinite().all()
    # 18 steps an epoch in the demo's schedule
    assert seen == [drawn_ratio(RATIOS, step) for step in range(36, 41)]
    assert set(seen) == set(RATIOS)
    seen.clear()
    trainer.on_validation_epoch_start()
    with torch.no_grad():
        trainer.validation_step(batch)
    assert seen == [0.25]
    assert net.arguments["keep_ratio"] == own == 0.25


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scd_keep_ratios": (0.5, 0)}, r"keep ratios to draw from must be a list of numbers in \(0, 1\].*\(0.5, 0\)"),
        ({"scd_keep_ratio": 1.0, "scd_keep_ratios": (0.5,)}, "this network prunes no tokens"),
    ],
    ids=["none of a share", "dense"],
)
def test_refused_before_the_first_step(
    make_trainer: Callable[..., Any], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_trainer(type("Wrong", (nnUNetTrainerSCD_demo,), settings), initialize=True)
