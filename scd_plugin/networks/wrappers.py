"""Looks through the wrappers of DDP and `torch.compile`, whose names have no place in checkpoints."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

__all__ = ["unwrapped", "without_wrappers"]

_PREFIXES = re.compile(r"^(module\.|_orig_mod\.)+")


def unwrapped(network: Any) -> Any:
    """The network inside the wrappers, if there are any, in whatever order."""
    for wrapper in ("_orig_mod", "module"):
        inner = getattr(network, wrapper, None)
        if isinstance(inner, nn.Module):
            return unwrapped(inner)
    return network


def without_wrappers(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A copy of a state dict without the prefixes of the wrappers, in whatever order they are."""
    return {_PREFIXES.sub("", name): value for name, value in state_dict.items()}
