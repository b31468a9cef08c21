"""What a forward pass depends on besides the numbers in its image and its weights.

A recorded pass may stand for another one where all of this is the same. It is read anew before every pass, from the
modules themselves, so nothing has to announce a change: neither `set_keep_ratio` nor whoever swaps a part.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["NetworkState", "PassKey", "memory_format", "network_state", "pass_key"]

_COMMON = frozenset(nn.Module().__dict__) - {"training"}
_PLAIN = frozenset((int, float, str, bool, type(None)))
_PARAMETERS = frozenset((nn.Parameter, type(None)))


class NetworkState(NamedTuple):
    """A network's modules as they are now."""

    settings: tuple[Any, ...]
    """Classes and attributes of all modules."""
    weights: tuple[Any, ...]
    """Where parameters and buffers lie, and how. What is written into them in place changes nothing here."""


class PassKey(NamedTuple):
    """Passes with the same key are the same computation."""

    place: tuple[torch.device, int]
    """Device and stream."""
    image: tuple[Any, ...]
    numerics: tuple[Any, ...]
    network: NetworkState


def pass_key(network: nn.Module, image: Tensor) -> PassKey | None:
    """Return the key of a pass over an image; None for one that must be computed, see `network_state`."""
    state = network_state(network)
    if state is None:
        return None
    stream = torch.cuda.current_stream(image.device).cuda_stream if image.is_cuda else 0
    layout = (image.shape, image.dtype, memory_format(image))
    return PassKey((image.device, stream), layout, _numerics(image.device.type), state)


def memory_format(image: Tensor) -> torch.memory_format:
    """Say whether a batch of images has its channels last; views of larger images count as contiguous."""
    last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(image.ndim)
    if last is None or image.is_contiguous() or not image.is_contiguous(memory_format=last):
        return torch.contiguous_format
    return last


def network_state(network: nn.Module) -> NetworkState | None:
    """Return the state of a network; None where its pass is more than its output.

    That is with a module in training mode, with hooks, which a replay would not call, with a compiled module, and with
    parameters that another module lent (`torch.func.functional_call`) or that are of a class of their own.
    """
    settings: list[Any] = []
    weights: list[Any] = []
    remaining: list[nn.Module | None] = [network]
    while remaining:
        module = remaining.pop()
        if module is None:
            continue
        own = module.__dict__
        if _is_more(own):
            return None
        settings.append(type(module))
        # a third faster than to call `_setting` for all
        settings.extend(
            [value if type(value) in _PLAIN else _setting(value) for name, value in own.items() if name not in _COMMON]
        )
        for tensors in (own["_parameters"], own["_buffers"]):
            if tensors:
                weights.extend([_place(values) for values in tensors.values() if values is not None])
        remaining.extend(own["_modules"].values())
    return NetworkState(tuple(settings), tuple(weights))


def _is_more(own: dict[str, Any]) -> bool:
    """Whether a module with these attributes does more in a pass than to answer."""
    called = own["_forward_hooks"] or own["_forward_pre_hooks"] or own.get("_compiled_call_impl")
    # parts that are compiled or scripted have no mode of their own
    return own.get("training", True) or called or not _PARAMETERS.issuperset(map(type, own["_parameters"].values()))


def _setting(value: Any) -> Any:
    """Return something equal for equal values; whatever else there may be is told apart by what it is."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, (list, tuple)):
        return tuple(map(_setting, value))
    if isinstance(value, dict):
        return tuple((name, _setting(one)) for name, one in value.items())
    return _place(value) if isinstance(value, Tensor) else id(value)


def _place(tensor: Tensor) -> Any:
    return tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()


def _numerics(device: str) -> tuple[Any, ...]:
    """Return the global settings that choose precision and kernels."""
    precision = [_precision(operation) for operation in ("matmul", "conv")]
    attention: Any = torch.backends.cuda
    return (
        torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device),
        *precision,
        torch.backends.cudnn.enabled,
        torch.are_deterministic_algorithms_enabled(),
        attention.flash_sdp_enabled(),
        attention.mem_efficient_sdp_enabled(),
        attention.math_sdp_enabled(),
        attention.cudnn_sdp_enabled(),
    )


def _precision(operation: str) -> Any:
    """Return how CUDA computes in float32; the older question raises an error where the newer setting was used."""
    internal: Any = torch._C  # noqa: SLF001
    if hasattr(internal, "_get_fp32_precision_getter"):
        return internal._get_fp32_precision_getter("cuda", operation)  # noqa: SLF001
    return internal._get_cublas_allow_tf32() if operation == "matmul" else internal._get_cudnn_allow_tf32()  # noqa: SLF001
