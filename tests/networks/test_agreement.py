from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from scd_plugin.networks.agreement import agreement, sweep_agreement


class Fixed(nn.Module):
    """Answers with the logits of a label map."""

    def __init__(self, labels: Tensor) -> None:
        super().__init__()
        self.labels = labels

    def forward(self, image: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(self.labels, 4).movedim(-1, 1).float().expand(len(image), -1, -1)


def test_dice_voxels_and_error() -> None:
    dense, pruned = Fixed(torch.tensor([[0, 1, 1, 2, 2, 2]])), Fixed(torch.tensor([[0, 1, 2, 2, 2, 2]]))
    dice, voxels, error = agreement(dense, pruned, [torch.zeros(2, 1), torch.zeros(1, 1)])
    assert dice[:2] == pytest.approx((2 / 3, 6 / 7))
    # class 3 is in neither
    assert math.isnan(dice[2])
    assert voxels == pytest.approx(5 / 6)
    # one voxel of six has its 1 in another channel
    assert error == pytest.approx((2 / 6) ** 0.5)


def test_no_images() -> None:
    with pytest.raises(ValueError, match="images must hold at least one batch; got none"):
        agreement(nn.Identity(), nn.Identity(), [])


def test_sweep_agrees_fully_where_all_is_kept(stock_primus: Callable[..., nn.Module]) -> None:
    dense, images = stock_primus().eval(), [torch.randn(1, 2, 32, 32, 32)]
    results = sweep_agreement(dense, images, priors=("change", "random"), keep_ratios=(1, 0.25))
    assert [(result.prior, result.keep_ratio) for result in results] == [
        ("change", 1),
        ("change", 0.25),
        ("random", 1),
        ("random", 0.25),
    ]
    for full, few in (results[:2], results[2:]):
        assert (full.voxels, full.logit_error) == (1.0, 0.0)
        assert few.logit_error > 0
    assert results[1].logit_error != results[3].logit_error
