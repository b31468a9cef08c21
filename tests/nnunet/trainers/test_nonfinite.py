import math
from typing import Any

import pytest
import torch

from scd_plugin.nnunet.trainers.nonfinite import MAX_IN_A_ROW, NonFiniteWatch


class Overflow(torch.autograd.Function):
    """A finite value with a gradient that is not."""

    @staticmethod
    def forward(_: Any, value: torch.Tensor) -> torch.Tensor:
        return value.clone()

    @staticmethod
    def backward(_: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient * math.inf


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_bad_gradients_change_nothing(bad: float) -> None:
    net = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
    optimizer.register_step_pre_hook(NonFiniteWatch().before_step)
    before = net.weight.detach().clone()
    (net(torch.ones(1, 2)).sum() * bad).backward()
    optimizer.step()
    assert torch.equal(net.weight, before)
    optimizer.zero_grad()
    net(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert not torch.equal(net.weight, before)
    assert torch.isfinite(net.weight).all()


def test_cases_are_named_and_counting_starts_anew() -> None:
    watch = NonFiniteWatch()
    assert watch.see(0.5, ["a"]) is None
    assert watch.see(math.nan, ["case_1", "case_2"]) == (
        "loss not finite (loss nan), step skipped; cases: case_1, case_2"
    )
    assert watch.in_a_row == 1
    watch.see(0.5, [])
    assert watch.in_a_row == 0


def test_finite_loss_with_bad_gradients_is_counted() -> None:
    net, watch = torch.nn.Linear(1, 1), NonFiniteWatch()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
    optimizer.register_step_pre_hook(watch.before_step)

    def step(value: torch.Tensor) -> str | None:
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        return watch.see(0.5, ["case_1"])

    before = net.weight.detach().clone()
    for _ in range(MAX_IN_A_ROW - 1):
        line = step(Overflow.apply(net(torch.ones(1, 1)).sum()))
        assert line == "gradients not finite (loss 0.5), step skipped; cases: case_1"
    with pytest.raises(RuntimeError, match="gradients not finite in 10 steps in a row, last with case_1"):
        step(Overflow.apply(net(torch.ones(1, 1)).sum()))
    assert torch.equal(net.weight, before)
    assert step(net(torch.ones(1, 1)).sum()) is None
    assert watch.in_a_row == 0
    assert not torch.equal(net.weight, before)


def test_stops_when_training_is_broken() -> None:
    watch = NonFiniteWatch()
    for _ in range(MAX_IN_A_ROW - 1):
        watch.see(math.inf, ["x"])
    with pytest.raises(RuntimeError, match="not finite in 10 steps in a row, last with case_9: look for NaN"):
        watch.see(math.nan, ["case_9"])
