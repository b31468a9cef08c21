from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from scd_plugin.nnunet.augmentation.made_there import MadeThere

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "make",
    [
        lambda **where: torch.zeros((2,), **where),
        lambda **where: torch.empty(2, **where),
        lambda **where: torch.full((2,), 1.0, **where),
        lambda **where: torch.linspace(0, 1, 2, **where),
    ],
    ids=["zeros", "empty", "full", "linspace"],
)
def test_new_tensors_are_made_there(make: Callable[..., Tensor], pretended: torch.device) -> None:
    with MadeThere(pretended):
        assert make().device == pretended
        assert make(device=CPU).device == CPU
    assert make().device == CPU


def test_numbers_stay(pretended: torch.device) -> None:
    with MadeThere(pretended):
        assert torch.tensor([1.0]).device == CPU
        assert torch.rand(1).device == CPU


def test_numpy(pretended: torch.device) -> None:
    there = torch.arange(3).to(pretended)
    with MadeThere(pretended, numpy=lambda tensor: tensor.cpu().numpy() + 1):
        assert there.numpy().tolist() == [1, 2, 3]
    with MadeThere(pretended), pytest.raises(RuntimeError, match=r"\.numpy\(\) is not supported"):
        there.numpy()
