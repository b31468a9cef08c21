"""Counts the training memory of a network without a device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

__all__ = ["saved_bytes"]


def saved_bytes(build: Callable[[], nn.Module], image_shape: Sequence[int]) -> int:
    """Count bytes that autograd keeps for the backward pass of one float32 forward pass, parameters not included.

    The network is built and run on PyTorch's meta device, where tensors have shapes and no memory.

    Args:
        build: makes the network, in training mode.
        image_shape: (B, in_channels, *img_size).
    """
    storages: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        # held, so that its address is not used again
        storages[storage._cdata] = storage  # noqa: SLF001
        return tensor

    with torch.device("meta"):
        network, image = build(), torch.empty(*image_shape)
    with _FusedAttention(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(image)
    # by storage, since a linear layer keeps its weight as a transposed view
    for parameter in network.parameters():
        storages.pop(parameter.untyped_storage()._cdata, None)  # noqa: SLF001
    return sum(storage.nbytes() for storage in storages.values())


class _FusedAttention(TorchFunctionMode):
    """Counts attention as real devices run it: on the meta device it would keep its N x N matrices."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.scaled_dot_product_attention:
            # by position, or by name as timm has them
            given = [*args[:3], *((kwargs or {})[name] for name in ("query", "key", "value")[len(args[:3]) :])]
            return _KeepInputsAndOutput.apply(*given)
        return func(*args, **(kwargs or {}))


class _KeepInputsAndOutput(torch.autograd.Function):
    """Saves what a fused attention kernel saves. It is never run backwards."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        output = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, output)
        return output
