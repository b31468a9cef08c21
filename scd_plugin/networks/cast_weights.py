"""Casts weights once instead of at every call."""

from __future__ import annotations

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
    """A network that is another one but for the weights that autocast casts; they are cast already."""

    network: nn.Module
    originals: list[Tensor]
    """(N) weights of the other network, in float32."""
    cast: dict[tuple[Any, ...], Tensor]
    """(N) what they are cast to, by what tells them apart; `renew` fills it."""

    def renew(self) -> None:
        """Cast the weights as they are now: one operator for all of them."""
        torch._foreach_copy_(list(self.cast.values()), self.originals)


def cast_copy(
    network: nn.Module, dtype: torch.dtype, known: Mapping[tuple[Any, ...], Tensor] | None = None
) -> CastCopy | None:
    """Copy the modules of a network, and the weights that `cast_weights` would cast; all else is the network's own.

    For these weights there is new memory, in `dtype`, except where that of another copy is `known`. None where there
    is nothing to cast.
    """
    # their own, not those that a parametrization computes them of
    weights = [weight for layer in _cast_by_autocast(network) for weight in layer.parameters(recurse=False)]
    # a layer may stand in two places
    by_key = {(id(one), one.shape, one.stride(), dtype): one for one in weights if one.dtype == torch.float32}
    if not by_key:
        return None
    known = known or {}
    cast = {key: known[key] if key in known else torch.empty_like(one, dtype=dtype) for key, one in by_key.items()}
    lent = {id(one): nn.Parameter(cast[key].detach(), requires_grad=False) for key, one in by_key.items()}
    return CastCopy(_modules_copied(network, lent, {}), [one.detach() for one in by_key.values()], cast)


def _modules_copied(module: nn.Module, lent: Mapping[int, nn.Parameter], seen: dict[int, nn.Module]) -> nn.Module:
    """Copy a module and those in it, with parameters that are `lent` in place of others; nothing else is copied."""
    if id(module) not in seen:
        # not by `copy`, which asks for what it would pickle
        seen[id(module)] = copied = object.__new__(type(module))
        copied.__dict__.update(vars(module))
        own, children = vars(module)["_parameters"], vars(module)["_modules"]
        copied.__dict__["_parameters"] = {name: lent.get(id(one), one) for name, one in own.items()}
        copied.__dict__["_modules"] = {
            name: None if child is None else _modules_copied(child, lent, seen) for name, child in children.items()
        }
    return seen[id(module)]


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
