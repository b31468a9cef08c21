"""Multiply-accumulates and parameters of the published settings, built on the meta device: no weights, no time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scd_plugin import SCDUNETR
from scd_plugin.measure.cost import multiply_accumulates, parameters
from scd_plugin.measure.operators import operators
from scd_plugin.networks.guidance import StageWatch

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


class Twice(nn.Module):
    """A module under two names, as nnU-Net's blocks have them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Linear(4, 4)
        self.all_modules = nn.Sequential(self.conv)
        self.tied = nn.Linear(4, 4)
        self.tied.weight = self.conv.weight
        self.register_buffer("offset", torch.ones(4))

    def forward(self, image: Tensor) -> Tensor:
        return self.tied(self.all_modules(image)) + self.offset


def test_listeners_with_gradients_do_not_matter(small: Callable[..., SCDUNETR]) -> None:
    network, image = small().train(), torch.zeros(1, 2, 32, 32, 32)
    expected = multiply_accumulates(network, image)
    watch = StageWatch(network)
    network(image)
    assert multiply_accumulates(network, image) == expected
    assert len(watch.take()) == 3


def test_weights_stay_where_a_module_has_two_names() -> None:
    network = Twice()
    image = torch.randn(2, 4)
    before = network(image)
    assert multiply_accumulates(network, image) == 2 * 2 * 4 * 4
    assert operators(network, image)["addmm"] == 2
    assert torch.equal(network(image), before)
    assert network.conv.weight.requires_grad
    assert parameters(network) == 4 * 4 + 4 + 4


def test_parameters() -> None:
    with torch.device("meta"):
        net, dense = SCDUNETR(**BTCV), SCDUNETR(**{**BTCV, "keep_ratio": 1})
    learned = sum(parameter.numel() for parameter in net.parameters())
    # the published count includes MTA's fixed positions, with a row for CLS
    assert net.completion is not None
    fixed = net.completion.refine.pos_embed.numel() + 768
    assert (learned + fixed) / 1e6 == pytest.approx(107.577, abs=0.01)
    assert sum(parameter.numel() for parameter in dense.parameters()) / 1e6 == pytest.approx(93.3, rel=0.01)


def test_a_convolution_and_a_matrix_product() -> None:
    network = nn.Sequential(nn.Conv3d(2, 5, 3, padding=1), nn.Flatten(1), nn.Linear(5 * 4**3, 7))
    image = torch.zeros(3, 2, 4, 4, 4)
    assert multiply_accumulates(network, image) == 3 * (4**3 * 5 * 2 * 27 + 5 * 4**3 * 7)
    assert parameters(network) == (2 * 27 + 1) * 5 + (5 * 4**3 + 1) * 7


def test_attention_counts_as_two_matrix_products() -> None:
    class Attention(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.scaled_dot_product_attention(x, x, x)

    assert multiply_accumulates(Attention(), torch.zeros(1, 2, 10, 8)) == 2 * 2 * 10 * 10 * 8


def test_memory_costs_its_keys_and_values_and_the_attention_to_them(small: Callable[..., SCDUNETR]) -> None:
    image = torch.zeros(1, 2, 32, 32, 32)
    without, tokens, pooled = (
        multiply_accumulates(small(memory=memory), image) for memory in ("none", "tokens", "pooled")
    )
    # in blocks 2 to 4: queries with CLS, and tokens that left, of 64
    blocks = [(33, 32), (17, 48), (9, 56)]
    assert tokens - without == sum(2 * left * 48 * 48 + 2 * queries * left * 48 for queries, left in blocks)
    assert pooled - without == sum(2 * 8 * 48 * 48 + 2 * queries * 8 * 48 for queries, _ in blocks)


def test_network_stays_as_it_is() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    multiply_accumulates(network, torch.zeros(2, 4))
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
