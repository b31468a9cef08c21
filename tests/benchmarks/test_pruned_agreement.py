from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from pruned_agreement import agreement, sweep_agreement
from torch import Tensor, nn


class Fixed(nn.Module):
    """Answers with the logits of a label map, after some products that change nothing."""

    def __init__(self, labels: Tensor, products: int = 1) -> None:
        super().__init__()
        self.products = products
        self.register_buffer("logits", torch.nn.functional.one_hot(labels, 4).float())
        self.register_buffer("same", torch.eye(4))

    def forward(self, image: Tensor) -> Tensor:
        logits = self.logits
        for _ in range(self.products):
            logits = logits @ self.same
        return logits.movedim(-1, 1).expand(len(image), -1, -1)


def test_dice_voxels_and_error() -> None:
    dense, pruned = Fixed(torch.tensor([[0, 1, 1, 2, 2, 2]]), 4), Fixed(torch.tensor([[0, 1, 2, 2, 2, 2]]))
    found = agreement(dense, pruned, [torch.zeros(2, 1), torch.zeros(1, 1)])
    assert found.dice[:2] == pytest.approx((2 / 3, 6 / 7))
    # class 3 is in neither
    assert math.isnan(found.dice[2])
    assert found.voxels == pytest.approx(5 / 6)
    # one voxel of six has its 1 in another channel
    assert found.logit_error == pytest.approx((2 / 6) ** 0.5)
    assert found.operations == 0.25


def test_seconds_are_medians_without_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    # begin and end of dense and pruned in turn, for three batches
    clock = iter([0, 8, 10, 11, 20, 22, 30, 33, 40, 44, 50, 52])
    monkeypatch.setattr("pruned_agreement.time.perf_counter", lambda: next(clock))
    labels = torch.tensor([[0, 1]])
    calls: list[str] = []
    dense, pruned = Fixed(labels), Fixed(labels)
    for name, network in (("dense", dense), ("pruned", pruned)):
        network.register_forward_pre_hook(lambda *_, name=name: calls.append(name))
    found = agreement(dense, pruned, [torch.zeros(1, 1)] * 3)
    assert (found.dense_seconds, found.seconds) == (4, 2)
    # counted once, warmed up once, then in turn
    assert calls == ["pruned", "dense", *["dense", "pruned"] * 4]


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
        # nothing but another order of additions in the decoder
        assert (full.voxels, full.logit_error) == pytest.approx((1, 0), abs=1e-4)
        assert full.operations == 1
        assert few.logit_error > 0
        assert few.operations < 0.8
        assert min(few.seconds, few.dense_seconds) > 0
    assert results[1].logit_error != results[3].logit_error
