"""How many operators a pass starts on a GPU, counted without one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scd_plugin import SCDPrimus
from scd_plugin.measure.operators import operators
from scd_plugin.networks.builder import build_network
from scd_plugin.networks.cast_weights import cast_copy, cast_weights


def published(size: str) -> Any:
    return build_network(size, 1, 14, 96)


@pytest.mark.parametrize(
    ("build", "argument", "most", "most_autocast"),
    [
        (published, "base", 430, 590),
        (published, "base-fast", 420, 570),
        (lambda size: SCDPrimus(1, 14, 96, size=size), "M", 650, 880),
    ],
    ids=["published", "fast", "SCD-Primus M"],
)
def test_few_operators(build: Any, argument: str, most: int, most_autocast: int) -> None:
    """Computed, where autocast casts weights one by one; replayed as CUDA graphs, where one operator casts them all."""
    with torch.device("meta"):
        net, image = build(argument), torch.empty(2, 1, 96, 96, 96)
    autocast = operators(net, image).total()
    assert most_autocast - 40 < autocast <= most_autocast
    copied = cast_copy(net, torch.float16)
    assert copied is not None
    found = operators(copied.network, image)
    assert most - 40 < found.total() + 1 <= most, found
    # as `scd predict` has them
    cast_weights(net, torch.float16)
    assert operators(net, image) == found
    # without a scatter onto zeros, and without copies of what attention gives
    assert found["scatter"] == found["zeros_like"] == 0
    assert found["clone"] <= 3


def test_nothing_that_light_decoders_hold_is_promoted() -> None:
    with torch.device("meta"):
        net, image = build_network("tiny-fast", 1, 3, 32), torch.empty(1, 1, 32, 32, 32)
    seen: list[torch.dtype] = []
    net.decoder.boundaries.adn.register_forward_pre_hook(lambda _, args: seen.append(args[0].dtype))
    operators(net, image)
    assert seen == [torch.float16]


class TestCounting:
    def count(self, forward: Any, *shape: int, **options: Any) -> dict[str, int]:
        class Network(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return forward(x)

        return dict(operators(Network(), torch.zeros(*shape), **options))

    def test_casts_count_and_views_do_not(self) -> None:
        network = nn.Sequential(nn.Flatten(1), nn.Linear(12, 4), nn.ReLU(inplace=True), nn.Unflatten(1, (2, 2)))
        assert operators(network, torch.zeros(3, 2, 6)) == {"_to_copy": 3, "addmm": 1, "relu_": 1}
        cast_weights_of_any(network)
        assert operators(network, torch.zeros(3, 2, 6)) == {"_to_copy": 1, "addmm": 1, "relu_": 1}

    def test_autocast_is_that_of_cuda(self) -> None:
        # a CPU's leaves norms in half precision
        assert self.count(lambda x: F.layer_norm(x.half(), (3,)), 3) == {"_to_copy": 2, "native_layer_norm": 1}

    def test_attention_is_one_operator(self) -> None:
        found = self.count(lambda x: F.scaled_dot_product_attention(x, key=x, value=x), 1, 2, 10, 8)
        assert found == {"_to_copy": 3, "_scaled_dot_product_flash_attention": 1}
        mask = torch.zeros(1, 1, 1, 10)
        found = self.count(lambda x: F.scaled_dot_product_attention(x, x, x, attn_mask=mask.to(x.device)), 1, 2, 10, 8)
        assert found["_scaled_dot_product_efficient_attention"] == 1

    def test_everything_else_stays_as_it_was(self) -> None:
        network = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)).train()
        operators(network, torch.zeros(2, 4), torch.bfloat16)
        assert network.training
        assert {parameter.device.type for parameter in network.parameters()} == {"cpu"}
        assert not torch.is_autocast_enabled("cuda")
        assert torch.get_autocast_dtype("cuda") == torch.float16

    def test_an_error_of_the_network_passes(self) -> None:
        with pytest.raises(ValueError, match=r"image must have shape \(B, 1, 32, 32, 32\)"):
            operators(build_network("tiny", 1, 2, 32), torch.zeros(1, 1, 16, 16, 16))
        assert not torch.is_autocast_enabled("cuda")


def cast_weights_of_any(network: nn.Module) -> None:
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            layer.half()
