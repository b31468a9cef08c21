"""Multiply-accumulates and parameters of the published settings, built on the meta device: no weights, no time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from scd_plugin import SCDUNETR
from scd_plugin.measure.cost import multiply_accumulates

BTCV: dict[str, Any] = {"in_channels": 1, "out_channels": 14, "img_size": 96, "keep_ratio": 0.1}
BRATS: dict[str, Any] = {"in_channels": 4, "out_channels": 3, "img_size": 128, "keep_ratio": 0.25}


def count_gmacs(settings: dict[str, Any]) -> float:
    with torch.device("meta"):
        net = SCDUNETR(**settings)
        size = (settings["img_size"],) * 3
        image = torch.empty(1, settings["in_channels"], *size)
    return multiply_accumulates(net, image) / 1e9


@pytest.mark.parametrize(
    ("settings", "published"),
    [(BTCV, 131.80), (BRATS, 403.77), ({**BTCV, "keep_ratio": 1}, 258.2)],
    ids=["BTCV", "BraTS", "BTCV dense twin"],
)
def test_multiply_accumulates(settings: dict[str, Any], published: float) -> None:
    assert count_gmacs(settings) == pytest.approx(published, rel=0.01)


def test_network_stays_on_its_device_and_in_its_mode(small: Callable[..., SCDUNETR]) -> None:
    net = small().train()
    assert multiply_accumulates(net, torch.zeros(1, 2, 32, 32, 32)) > 0
    assert net.training
    assert {parameter.device.type for parameter in net.parameters()} == {"cpu"}


def test_parameters() -> None:
    with torch.device("meta"):
        net, dense = SCDUNETR(**BTCV), SCDUNETR(**{**BTCV, "keep_ratio": 1})
    learned = sum(parameter.numel() for parameter in net.parameters())
    # the published count includes MTA's fixed positions, with a row for CLS
    assert net.completion is not None
    fixed = net.completion.refine.pos_embed.numel() + 768
    assert (learned + fixed) / 1e6 == pytest.approx(107.577, abs=0.01)
    assert sum(parameter.numel() for parameter in dense.parameters()) / 1e6 == pytest.approx(93.3, rel=0.01)
