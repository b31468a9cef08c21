"""The network of a trainer without what DDP and `torch.compile` put around it."""

from __future__ import annotations

from typing import Any

from torch import nn

from scd_plugin.networks import wrappers

__all__ = ["unwrapped"]


def unwrapped(network: Any) -> nn.Module:
    """The network inside DDP's and torch.compile's wrappers, whose names have no place in checkpoints."""
    inner = wrappers.unwrapped(network)
    if not isinstance(inner, nn.Module):
        msg = f"the trainer has no network yet; got {type(inner).__name__}"
        raise TypeError(msg)
    return inner
