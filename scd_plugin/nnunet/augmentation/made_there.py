"""Makes code that knows no devices work on one: what it makes anew is made there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["MadeThere"]

_MAKERS = (torch.empty, torch.zeros, torch.full, torch.linspace)


class MadeThere(TorchFunctionMode):
    """Within it new tensors are made on a device, unless the caller names one.

    `with torch.device(...)` also moves `torch.tensor`, which beside `torch.from_numpy` stays on the CPU here: small
    numbers, which PyTorch takes from there.

    Args:
        device: where.
        numpy: what `Tensor.numpy` gives of a tensor; None for what it is, which only a CPU's tensors have.
    """

    def __init__(self, device: torch.device, *, numpy: Callable[[Tensor], Any] | None = None) -> None:
        super().__init__()
        self.device = device
        self.numpy = numpy

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in _MAKERS and kwargs.get("device") is None:
            kwargs["device"] = self.device
        if func is Tensor.numpy and self.numpy is not None:
            return self.numpy(args[0])
        return func(*args, **kwargs)
