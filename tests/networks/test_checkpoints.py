from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from scd_plugin import SCDUNETR, load_tokensparse_state_dict
from scd_plugin.networks.checkpoints import _split_layer_embed, mismatch, tokensparse_name


def foreign(net: SCDUNETR) -> dict[str, Tensor]:
    """The network's weights as the paper authors' code would write them."""
    names = _split_layer_embed(net.state_dict())
    return {tokensparse_name(name, num_ups=len(net.decoder.ups)): value for name, value in names.items()}


@pytest.mark.parametrize(
    "changes", [{}, {"keep_ratio": 1}, {"patch_size": 16}, {"patch_size": 4, "img_size": 16}], ids=str
)
def test_weights_return_unchanged(small: Callable[..., SCDUNETR], changes: dict[str, object]) -> None:
    source, target = small(**changes), small(**changes)
    load_tokensparse_state_dict(target, {f"module.{name}": value for name, value in foreign(source).items()})
    for name, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], value), name


def test_buffers_that_we_compute_are_allowed(small: Callable[..., SCDUNETR]) -> None:
    net = small()
    weights = {**foreign(net), "encoder.policy": torch.ones(1, 65)}
    load_tokensparse_state_dict(net, {**weights, "completion_net.completion.pos_embed": torch.zeros(1, 65, 48)})


def test_everything_wrong_is_named_in_one_error(small: Callable[..., SCDUNETR]) -> None:
    net = small()
    weights = foreign(net)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    del weights["encoder.norm.weight"], weights["decoder.decoder5.transp_conv.conv.weight"]
    weights["encoder.blocks.99.norm1.weight"] = torch.ones(48)
    weights["encoder.cls_token"] = torch.zeros(1, 1, 96)
    weights["encoder.norm.bias"] = torch.full((48,), 7.0)
    with pytest.raises(ValueError, match="does not fit this SCDUNETR") as error:
        load_tokensparse_state_dict(net, weights)
    message = str(error.value)
    assert "missing: decoder.decoder5.transp_conv.conv.weight, encoder.norm.weight;" in message
    assert "unknown: encoder.blocks.99.norm1.weight;" in message
    assert "wrong shape: encoder.cls_token (1, 1, 96) instead of (1, 1, 48)" in message
    # and nothing was loaded
    assert all(torch.equal(net.state_dict()[name], value) for name, value in before.items())


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (
            lambda weights: {"state_dict": weights, "epoch": 3},
            "'state_dict' holds a dict; this looks like a whole checkpoint, pass its entry 'state_dict'$",
        ),
        (lambda weights: {**weights, "epoch": 3}, "must map names of parameters to tensors; 'epoch' holds a int$"),
    ],
    ids=["whole checkpoint", "a number"],
)
def test_what_is_no_state_dict(
    small: Callable[..., SCDUNETR], wrap: Callable[[dict[str, Tensor]], dict[str, object]], message: str
) -> None:
    net = small()
    with pytest.raises(ValueError, match=message):
        load_tokensparse_state_dict(net, wrap(foreign(net)))  # type: ignore[arg-type]


class TestMismatch:
    def test_nothing(self) -> None:
        assert mismatch({"a": torch.zeros(2)}, {"a": torch.ones(2)}) == ""

    def test_long_lists_are_cut(self) -> None:
        wanted = {f"weight_{i}": torch.zeros(1) for i in range(5)}
        assert mismatch(wanted, {}, at_most=2) == "missing: weight_0, weight_1 and 3 more"

    def test_heads_of_deep_supervision_may_be_dropped_not_missed(self) -> None:
        assert mismatch({}, {"decoder.heads.0.weight": torch.zeros(1)}) == ""
        assert mismatch({"decoder.heads.0.weight": torch.zeros(1)}, {}) == "missing: decoder.heads.0.weight"
        found = {"decoder.heads.0.weight": torch.zeros(1)}
        assert mismatch({}, found, drop_heads=False) == "unknown: decoder.heads.0.weight"
