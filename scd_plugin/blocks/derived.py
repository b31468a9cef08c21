"""Buffers that follow from a module's sizes: no state dict holds them, and loading one makes them anew."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["derive_buffer"]


def derive_buffer(module: nn.Module, name: str, make: Callable[[], Tensor]) -> None:
    """Register what `make` returns as a buffer outside of the state dict, so that checkpoints move between grids.

    It is made again whenever the module loads a state dict: after a build on the meta device neither `to_empty` nor the
    weights would bring its values. A dotted name is that of a part's buffer. `make` must be one that can be pickled.
    """
    _set(module, name, make())
    module.register_load_state_dict_post_hook(partial(_make_anew, name=name, make=make))  # type: ignore[no-untyped-call]


def _make_anew(module: nn.Module, _: Any, *, name: str, make: Callable[[], Tensor]) -> None:
    buffer = module.get_buffer(name)
    with torch.device("cpu"):
        made = make()
    if not buffer.is_meta:
        buffer.copy_(made)
        return
    # weights were assigned to a module on the meta device: the buffer goes where they are
    like = next(module.parameters(), made)
    _set(module, name, made.to(like.device, like.dtype if made.is_floating_point() else None))


def _set(module: nn.Module, name: str, values: Tensor) -> None:
    owner, _, last = name.rpartition(".")
    module.get_submodule(owner).register_buffer(last, values, persistent=False)
