"""Counts the operators that a forward pass starts on a GPU, on a machine that has none."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from scd_plugin.measure.valueless_copy import valueless_copy

__all__ = ["operators"]

# not views by their schema, but no kernel runs for them either
_FREE = frozenset(
    {"_unsafe_view", "detach", "device", "empty", "empty_like", "empty_strided", "lift_fresh", "new_empty"}
)


def operators(network: nn.Module, image: Tensor, dtype: torch.dtype = torch.float16) -> Counter[str]:
    """Count ATen operators of a forward pass in evaluation mode on CUDA under autocast, by name.

    On a fast GPU small networks wait for the processor, which starts at least one kernel for each operator. The pass
    runs on fake CUDA tensors, which have shapes and no values: no GPU and hardly any time is needed. Views are not
    counted. Attention counts as the one fused kernel that it is on a GPU.

    Args:
        network: its weights may be on the meta device; its mode is left as it was.
        image: (B, in_channels, *img_size) to count for; its values are not looked at.
        dtype: what autocast casts to.
    """
    counting, fake = _Counting(), FakeTensorMode(allow_non_fake_inputs=True)

    def on_cuda(tensor: Tensor) -> Tensor:
        with fake:
            return torch.empty(tensor.shape, dtype=tensor.dtype, device="cuda")

    # outside of the mode, which does not take what else a network holds
    copied, given = valueless_copy(network, on_cuda), on_cuda(image)
    nested = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    # torch.autocast turns itself off where there is no GPU
    torch.set_autocast_enabled("cuda", True)
    torch.set_autocast_dtype("cuda", dtype)
    try:
        with fake, torch.no_grad(), counting, _FusedAttention(dtype):
            copied(given)
    finally:
        torch.clear_autocast_cache()
        torch.set_autocast_enabled("cuda", nested[0])
        torch.set_autocast_dtype("cuda", nested[1])
    return counting.found


class _Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if not (func.is_view or name in _FREE):
            self.found[name] += 1
        return func(*args, **(kwargs or {}))


class _FusedAttention(TorchFunctionMode):
    """Takes the fused kernel that a GPU has: where there is none, PyTorch computes attention in matrix products."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        given = {**dict(zip(("query", "key", "value", "attn_mask"), args)), **(kwargs or {})}
        query, key, value = (given[name].to(self.dtype) for name in ("query", "key", "value"))
        mask = given.get("attn_mask")
        if mask is None:
            return torch.ops.aten._scaled_dot_product_flash_attention(query, key, value)[0]  # noqa: SLF001
        mask = mask.to(self.dtype).expand(-1, query.shape[1], query.shape[2], -1)
        return torch.ops.aten._scaled_dot_product_efficient_attention(query, key, value, mask, False)[0]  # noqa: SLF001
