import math

import pytest
import torch

from scd_plugin.nnunet.nonfinite import MAX_IN_A_ROW, NonFiniteWatch, drop_non_finite_gradients


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_bad_gradients_change_nothing(bad: float) -> None:
    net = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
    optimizer.register_step_pre_hook(drop_non_finite_gradients)
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
    assert watch.see(math.nan, ["case_1", "case_2"]) == "loss is nan, step skipped; cases: case_1, case_2"
    assert watch.in_a_row == 1
    watch.see(0.5, [])
    assert watch.in_a_row == 0


def test_stops_when_training_is_broken() -> None:
    watch = NonFiniteWatch()
    for _ in range(MAX_IN_A_ROW - 1):
        watch.see(math.inf, ["x"])
    with pytest.raises(RuntimeError, match="not finite in 10 steps in a row, last with case_9: look for NaN"):
        watch.see(math.nan, ["case_9"])
