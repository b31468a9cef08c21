"""Casts weights once instead of at every call."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from scd_plugin.blocks.score import ScorePredictor

__all__ = ["CastCopy", "cast_copy", "cast_weights"]


def cast_weights(network: nn.Module, dtype: torch.dtype) -> None:
    """Give a network's linear and convolution layers, for prediction, weights in the type that autocast casts them to.

    Under autocast to `dtype` its results stay what they were, to the last bit; without autocast it no longer runs.
    Autocast itself keeps what it has cast in none of nnU-Net's predictions, which run in inference mode, so every
    window would wait for more than a hundred casts. State dicts in float32 still load.

    Only `SCDUNETR` and `SCDPrimus` are changed: a network of someone else's parts may read weights in its own way.
    """
    for layer in _cast_by_autocast(network):
        layer.to(dtype)


class CastCopy(NamedTuple):
    """A network that reads another's weights, and what autocast makes of some of them."""

    network: nn.Module
    originals: list[Tensor]
    """(N) weights of the other network, in float32, that autocast casts."""
    cast: dict[tuple[Any, ...], Tensor]
    """(N) what they are cast to, by what tells them apart; `renew` fills it."""

    def renew(self) -> None:
        """Cast the weights as they are now: one operator for all of them."""
        if self.originals:
            torch._foreach_copy_(list(self.cast.values()), self.originals)


def cast_copy(
    network: nn.Module, dtype: torch.dtype, known: Mapping[tuple[Any, ...], Tensor] | None = None
) -> CastCopy:
    """Copy a network, not its weights, but for those that `cast_weights` would cast to `dtype`.

    For these there is new memory, except where another copy's is `known`.
    """
    weights = [weight for layer in _cast_by_autocast(network) for weight in layer.parameters()]
    # a layer may stand in two places
    by_key = {(id(one), one.shape, one.stride(), dtype): one for one in weights if one.dtype == torch.float32}
    known = known or {}
    cast = {key: known[key] if key in known else torch.empty_like(one, dtype=dtype) for key, one in by_key.items()}
    lent: dict[int, Any] = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    lent |= {id(one): nn.Parameter(cast[key].detach(), requires_grad=False) for key, one in by_key.items()}
    return CastCopy(copy.deepcopy(network, lent), [one.detach() for one in by_key.values()], cast)


def _cast_by_autocast(network: nn.Module) -> Iterator[nn.Module]:
    """Find the layers whose weights autocast casts wherever they are read."""
    # these import the family, whose passes are recorded with cast weights
    from scd_plugin.networks.scd_primus import SCDPrimus
    from scd_plugin.networks.scd_unetr import SCDUNETR

    if type(network) not in (SCDUNETR, SCDPrimus):
        return
    # read in float32 under autocast too
    exact = {module.score for module in network.modules() if isinstance(module, ScorePredictor)}
    for module in network.modules():
        if isinstance(module, (nn.Linear, _ConvNd)) and module not in exact:
            yield module
