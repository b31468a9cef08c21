"""A device that is none: it computes on the CPU, and refuses what a CUDA device would refuse."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

NAME = torch.device("meta")
# what copies from device to device because it is told to, and what takes indices from the CPU
_CROSSES = ("_to_copy",)
_INDICES = ("index.Tensor", "index_put.default", "index_put_.default", "_index_put_impl_.default")


class There(Tensor):
    """A tensor of the pretended device; `value` is on the CPU, and holds its numbers."""

    value: Tensor

    @staticmethod
    def __new__(cls, value: Tensor) -> There:  # noqa: PYI034
        made = Tensor._make_wrapper_subclass(
            cls, value.shape, strides=value.stride(), dtype=value.dtype, device=NAME, requires_grad=False
        )
        made.value = value
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        return f"There({self.value!r})"

    def tolist(self) -> list[Any]:
        return self.value.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


def compute(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Do what is asked with the numbers, on the CPU.

    Raises:
        RuntimeError: if tensors of both devices meet; those without axes may, as on CUDA.
    """
    name = str(func).removeprefix("aten.")
    kwargs = dict(kwargs)
    target = kwargs.get("device")
    checked = (args[0], *args[2:]) if name in _INDICES else (args, kwargs)
    tensors = [value for value in tree_flatten(checked)[0] if isinstance(value, Tensor)]
    here = [value for value in tensors if not isinstance(value, There) and value.ndim > 0]
    there = any(isinstance(value, There) for value in tree_flatten((args, kwargs))[0])
    if there and here and not name.startswith(_CROSSES):
        msg = f"{name} mixes devices: {[tuple(value.shape) for value in here]} on the CPU"
        raise RuntimeError(msg)
    if target is not None:
        kwargs["device"] = torch.device("cpu")
        there = torch.device(target) == NAME
    values = tree_map(lambda value: value.value if isinstance(value, There) else value, (args, kwargs))
    result = func(*values[0], **values[1])
    # what is written to is given back, not a copy of it
    written = [
        kwargs[spec.name] if spec.name in kwargs else args[place]
        for place, spec in enumerate(func._schema.arguments)
        if spec.alias_info is not None and spec.alias_info.is_write and (spec.name in kwargs or place < len(args))
    ]
    if written and isinstance(result, Tensor):
        return written[0]
    return tree_map(lambda value: There(value) if isinstance(value, Tensor) else value, result) if there else result


class Pretended(TorchDispatchMode):
    """Within it tensors can be made on the device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


class Numbers(TorchFunctionMode):
    """For what PyTorch makes of a list of numbers: of the device "meta" it would keep none."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        device = kwargs.pop("device", None) if func in (torch.tensor, torch.as_tensor) else None
        if func is Tensor.__getitem__ and isinstance(args[1], list):
            args = (args[0], torch.tensor(args[1]))
        made = func(*args, **kwargs)
        return made if device is None else made.to(device)


@pytest.fixture
def pretended() -> Iterator[torch.device]:
    """The device, which is there for the time of a test."""
    with Pretended(), Numbers():
        yield NAME
