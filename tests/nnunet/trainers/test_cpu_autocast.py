from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("nnunetv2")

from nnunetv2.training.nnUNetTrainer.primus.primus_trainers import AbstractPrimus

from scd_plugin import processor
from scd_plugin.nnunet import trainers
from scd_plugin.nnunet.trainers.float32_logits import logits_in_float32

MakeTrainer = Callable[..., Any]


class Half(trainers.nnUNetTrainerSCD_demo):
    scd_cpu_dtype = "bfloat16"


def one_step(trainer: Any) -> tuple[float, torch.dtype, torch.dtype]:
    """Loss, what a layer inside computed in, and what the loss saw."""
    inside: list[torch.dtype] = []
    trainer.network.encoder.blocks[0].mlp.fc1.register_forward_hook(lambda _m, _i, output: inside.append(output.dtype))
    seen: list[torch.dtype] = []
    loss = trainer.loss
    trainer.loss = lambda output, target: seen.append(output.dtype) or loss(output, target)
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(2, 1, 32, 32, 32, generator=generator)
    trainer.on_train_epoch_start()
    torch.manual_seed(0)
    result = trainer.train_step({"data": data, "target": (data > 0).float(), "keys": ["a", "b"]})
    return float(result["loss"]), inside[0], seen[0]


def test_computes_in_bfloat16_and_takes_the_loss_in_float32(make_trainer: MakeTrainer) -> None:
    losses = {}
    for trainer_class, dtype in ((trainers.nnUNetTrainerSCD_demo, torch.float32), (Half, torch.bfloat16)):
        torch.manual_seed(0)
        trainer = make_trainer(trainer_class, initialize=True)
        losses[dtype], inside, seen = one_step(trainer)
        assert (inside, seen) == (dtype, torch.float32)
        assert {p.dtype for p in trainer.network.parameters()} == {torch.float32}
        assert {p.grad.dtype for p in trainer.network.parameters() if p.grad is not None} == {torch.float32}
    assert losses[torch.bfloat16] != losses[torch.float32]
    assert losses[torch.bfloat16] == pytest.approx(losses[torch.float32], rel=0.01)


def test_other_precisions_are_refused(make_trainer: MakeTrainer) -> None:
    class Odd(trainers.nnUNetTrainerSCD_demo):
        scd_cpu_dtype = "float16"

    with pytest.raises(ValueError, match="scd_cpu_dtype must be one of float32, bfloat16; got 'float16'"):
        make_trainer(Odd)


@pytest.mark.parametrize(("trainer_class", "device"), [(trainers.nnUNetTrainerSCD_demo, "cpu"), (Half, "cuda")])
def test_leaves_float32_and_cuda_alone(make_trainer: MakeTrainer, trainer_class: type, device: str) -> None:
    trainer = make_trainer(trainer_class, device=device)
    assert trainer._run_step(lambda _: {"autocast": torch.is_autocast_enabled("cpu")}, {}) == {"autocast": False}


@pytest.mark.parametrize(
    ("trainer_class", "instructions", "said"),
    [(Half, None, 1), (Half, "AVX512-BF16", 0), (trainers.nnUNetTrainerSCD_demo, None, 0)],
    ids=["slow", "fast", "float32"],
)
def test_says_where_it_is_slow(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch, trainer_class: type, instructions: str | None, said: int
) -> None:
    monkeypatch.setattr(processor, "bfloat16_instructions", lambda: instructions)
    monkeypatch.setattr(AbstractPrimus, "on_train_start", lambda _: None)
    trainer = make_trainer(trainer_class, initialize=True)
    trainer.on_train_start()
    note = "note: bfloat16 will be slow on this processor, which has neither AMX nor AVX512-BF16; results are as on"
    assert Path(trainer.log_file).read_text().count(note) == said


def test_every_level_of_deep_supervision() -> None:
    levels = [torch.zeros(1, dtype=torch.bfloat16)] * 2
    converted = logits_in_float32(torch.nn.Identity(), (), levels)
    assert [level.dtype for level in converted] == [torch.float32] * 2
