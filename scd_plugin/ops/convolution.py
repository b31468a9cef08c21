"""Convolutions that are faster than PyTorch's own calls, above all on a CPU, with the same results up to rounding."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["channels_last", "is_tracing", "joined_convolution", "pointwise_convolution", "takes_short_ways"]

# TorchScript takes comments on types inside of functions for its own
is_tracing: Callable[[], bool] = torch.jit.is_tracing  # type: ignore[attr-defined]


def takes_short_ways(x: Tensor) -> bool:
    """Whether the convolutions of this module are worth it for a tensor.

    They were measured on CPUs alone. Traced graphs keep plain convolutions: the ONNX tracer takes none whose weight is
    a slice, and runtimes have better ways of their own.
    """
    return x.device.type == "cpu" and not is_tracing()


def channels_last(x: Tensor) -> Tensor:
    """Lay the channels of each voxel of (B, C, H, W) or (B, C, H, W, D) side by side in memory; values stay.

    A convolution of few channels then takes half the time: oneDNN reorders maps that lie one after the other before and
    after every call.
    """
    return x.contiguous(memory_format=torch.channels_last_3d if x.ndim == 5 else torch.channels_last)


def joined_convolution(inputs: list[Tensor], weight: Tensor, bias: Tensor | None, padding: list[int]) -> Tensor:
    """Convolve several maps as if they were concatenated along their channels, and never concatenate them.

    Convolution is linear, so it is the sum of one convolution for each map. That saves the copy, and keeps 16 channels
    16: with one more, of the image, kernels made for blocks of 16, a CPU's and a GPU's, would pad them to 32. Under
    autocast it also keeps maps in half precision, which a float32 image beside them would not.

    Maps (B, C_i, *size), a weight (C_out, sum of C_i, *kernel) and zeros added on both sides, per axis, give
    (B, C_out, *out), on a CPU in the layout of `channels_last`.
    """
    start = 0
    maps: list[Tensor] = []
    for x in inputs:
        part = weight[:, start : start + x.shape[1]]
        start += x.shape[1]
        if takes_short_ways(x):
            part, x = channels_last(part), channels_last(x)
        y = F.conv3d(x, part, bias, padding=padding) if x.ndim == 5 else F.conv2d(x, part, bias, padding=padding)
        maps.append(y)
        bias = None
    total = maps[0]
    for i in range(1, len(maps)):
        total = total + maps[i]
    return total


def pointwise_convolution(inputs: list[Tensor], weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve the sum of maps with a kernel of one voxel, as the matrix products that it is.

    The maps are never summed: where they lie in memory in different ways, that takes three times as long as a product.
    Maps (B, C_in, *size) and a weight (C_out, C_in, 1, ...) give (B, C_out, *size).
    """
    x, size = inputs[0].flatten(2), inputs[0].shape[2:]
    matrix = weight.flatten(1).expand(x.shape[0], -1, -1)
    y = torch.bmm(matrix, x) if bias is None else torch.baddbmm(bias[None, :, None], matrix, x)
    for other in inputs[1:]:
        y = torch.baddbmm(y, matrix, other.flatten(2))
    return y.unflatten(2, size)  # type: ignore[no-untyped-call]
