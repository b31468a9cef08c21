"""Weights that are cast once give what autocast gives, to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any

import pytest
import torch
from torch import nn

from scd_plugin.networks.cast_weights import cast_copy, cast_weights
from scd_plugin.networks.family import ComposedNetwork

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "published": ("small", {}),
    "fast": ("small", {"decoder": "light", "completion": "assembly_to_kept", "completion_hidden_size": 24}),
    "memory": ("small", {"memory": "pooled"}),
    "dense": ("small", {"keep_ratio": 1}),
    "2-D": ("small", {"spatial_dims": 2}),
    "primus": ("small_primus", {"sampling": "soft_topk", "num_register_tokens": 2}),
    "primus attention": ("small_primus", {"prior": "attention"}),
    # it convolves at full resolution, and many processors have no instructions for bfloat16
    "primus V3": ("small_primus", {"version": 3, "img_size": 16, "patch_size": 4}),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_same_logits_as_autocast_gives(request: pytest.FixtureRequest, variant: str) -> None:
    fixture, changes = VARIANTS[variant]
    net: Any = request.getfixturevalue(fixture)(**changes).eval()
    image, weights = torch.randn(2, *net.image_shape), net.state_dict()
    weights = {name: value.clone() for name, value in weights.items()}
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = net(image)
    cast_weights(net, torch.bfloat16)
    assert any(parameter.dtype == torch.bfloat16 for parameter in net.parameters())
    for _ in range(2):
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(net(image), expected)
        net.load_state_dict(weights)


def test_norms_and_what_is_read_in_float32_stay(small: Callable[..., Any]) -> None:
    net = small()
    cast_weights(net, torch.float16)
    assert net.encoder.stages[0].score.score.weight.dtype == torch.float32
    assert net.encoder.stages[0].score.reduce2.weight.dtype == torch.float16
    assert net.encoder.norm.weight.dtype == net.encoder.pos_embed.dtype == torch.float32


def test_parts_of_someone_else_stay(small: Callable[..., Any]) -> None:
    net = small()
    composed = ComposedNetwork(net.encoder, net.completion, net.decoder, out_channels=net.out_channels, num_taps=3)
    for other in (composed, nn.Sequential(nn.Linear(2, 2))):
        cast_weights(other, torch.float16)
        assert {parameter.dtype for parameter in other.parameters()} == {torch.float32}


class TestCopies:
    """As the recording of a pass has them."""

    @pytest.mark.parametrize("variant", VARIANTS)
    def test_same_logits_with_the_weights_as_they_are(self, request: pytest.FixtureRequest, variant: str) -> None:
        fixture, changes = VARIANTS[variant]
        net: Any = request.getfixturevalue(fixture)(**changes).eval()
        image, copied = torch.randn(2, *net.image_shape), cast_copy(net, torch.bfloat16)
        assert copied is not None
        for scale in (1.0, 1.5):
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
                for parameter in net.parameters():
                    parameter *= scale
                copied.renew()
                assert torch.equal(copied.network(image), net(image))
        assert {parameter.dtype for parameter in net.parameters()} == {torch.float32}

    def test_only_what_is_cast_takes_memory(self, small: Callable[..., Any]) -> None:
        net = small()
        copied = cast_copy(net, torch.bfloat16)
        assert copied is not None
        own = dict(net.named_parameters())
        for name, parameter in copied.network.named_parameters():
            assert (parameter is own[name]) == (parameter.dtype == torch.float32), name
        assert len(copied.cast) == len(copied.originals) > 50
        assert {parameter.dtype for parameter in net.parameters()} == {torch.float32}

    def test_memory_of_another_copy_is_used_again(self, small: Callable[..., Any]) -> None:
        net = small()
        first, second = cast_copy(net, torch.bfloat16), None
        assert first is not None
        second = cast_copy(net, torch.bfloat16, first.cast)
        assert second is not None
        assert [one.data_ptr() for one in second.cast.values()] == [one.data_ptr() for one in first.cast.values()]
        other = cast_copy(net, torch.float16, first.cast)
        assert other is not None
        assert {one.dtype for one in other.cast.values()} == {torch.float16}

    def test_settings_of_the_network_do_not_reach_a_copy(self, small: Callable[..., Any]) -> None:
        net = small().eval()
        image, copied = torch.randn(1, *net.image_shape), cast_copy(net, torch.bfloat16)
        assert copied is not None
        copied.renew()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            before = net(image)
            net.set_keep_ratio(0.75)
            assert not torch.equal(net(image), before)
            assert torch.equal(copied.network(image), before)

    def test_what_modules_hold_is_theirs(self, small: Callable[..., Any]) -> None:
        """A decoder of somebody's that can't be copied, and changes a tensor of its own in place."""
        net = small().eval()
        net.decoder.gain, net.decoder.lock = [torch.ones(1)], Lock()
        copied = cast_copy(net, torch.bfloat16)
        assert copied is not None
        net.decoder.gain[0].mul_(2)
        assert copied.network.decoder.gain[0].item() == 2
        assert copied.network.decoder is not net.decoder

    def test_where_nothing_is_cast_there_is_no_copy(self, small: Callable[..., Any]) -> None:
        net = small()
        composed = ComposedNetwork(net.encoder, net.completion, net.decoder, out_channels=net.out_channels, num_taps=3)
        assert cast_copy(composed, torch.bfloat16) is None
        cast_weights(net, torch.bfloat16)
        assert cast_copy(net, torch.bfloat16) is None

    def test_parametrized_weights_are_cast_where_they_are_read(self, small: Callable[..., Any]) -> None:
        net = small().eval()
        torch.nn.utils.parametrizations.weight_norm(net.encoder.blocks[0].mlp.fc1)
        image, copied = torch.randn(1, *net.image_shape), cast_copy(net, torch.bfloat16)
        assert copied is not None
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            copied.renew()
            assert torch.equal(copied.network(image), net(image))
