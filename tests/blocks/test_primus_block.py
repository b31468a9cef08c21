"""PrimusBlock is timm's EVA block: the same weights, the same numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.models.eva import EvaBlock

from scd_plugin.blocks.primus_block import PrimusBlock, query_and_key

SETTINGS: dict[str, Any] = {"qkv_fused": False, "swiglu_mlp": True, "scale_mlp": True, "mlp_ratio": 2.0}


def both_blocks(**settings: Any) -> tuple[EvaBlock, PrimusBlock]:
    blocks = []
    for kind in (EvaBlock, PrimusBlock):
        torch.manual_seed(0)
        blocks.append(kind(24, 2, **SETTINGS, **settings))
    return blocks[0], blocks[1]


@pytest.mark.parametrize("num_prefix", [0, 2])
@pytest.mark.parametrize("rope", [torch.randn(7, 24), torch.randn(3, 1, 7, 24)], ids=["shared", "of each sample"])
@pytest.mark.parametrize("autocast", [False, True])
def test_same_numbers_as_timms(num_prefix: int, rope: torch.Tensor, autocast: bool) -> None:
    theirs, ours = both_blocks(num_prefix_tokens=num_prefix, scale_attn_inner=True, init_values=0.1)
    assert {name: value.tolist() for name, value in theirs.state_dict().items()} == {
        name: value.tolist() for name, value in ours.state_dict().items()
    }
    x = torch.randn(3, num_prefix + 7, 24)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        assert torch.equal(ours(x, rope=rope), theirs(x, rope=rope))


def test_same_gradients_without_layer_scale_and_with_dropout() -> None:
    found = []
    for block in both_blocks(num_prefix_tokens=1, init_values=None, proj_drop=0.5, drop_path=0.5):
        torch.manual_seed(1)
        block.train()(torch.randn(3, 8, 24), rope=torch.randn(7, 24)).square().sum().backward()
        found.append([parameter.grad for parameter in block.parameters()])
    for one, other in zip(*found):
        torch.testing.assert_close(one, other)


def test_tokens_without_a_place_keep_query_and_key() -> None:
    _, block = both_blocks(num_prefix_tokens=2)
    x, still = torch.randn(1, 5, 24), torch.cat((torch.zeros(3, 12), torch.ones(3, 12)), dim=1)
    unmoved = query_and_key(block.attn, x, still)
    moved = query_and_key(block.attn, x, torch.randn(3, 24))
    assert unmoved.shape == (2, 1, 2, 5, 12)
    assert torch.equal(unmoved[:, :, :, :2], moved[:, :, :, :2])
    assert not torch.allclose(unmoved[:, :, :, 2:], moved[:, :, :, 2:])
    torch.testing.assert_close(unmoved[1, 0, :, 4], block.attn.k_proj(x)[0, 4].unflatten(0, (2, 12)))
