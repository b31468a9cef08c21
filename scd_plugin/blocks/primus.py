"""Primus's tokenizers and decoder from dynamic-network-architectures, for token patches with an edge per axis too.

All of them are three-dimensional; a 2-D image is a volume of one slice, its token patch (1, h, w).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from dynamic_network_architectures.building_blocks.patch_encode_decode import (
    LayerNormNd,
    PatchDecode,
    PatchEmbed,
    PatchEmbed_deeper,
    PatchEmbedDeeperControlled,
)
from dynamic_network_architectures.building_blocks.residual import StackedResidualBlocks
from dynamic_network_architectures.initialization.weight_init import InitWeights_He
from monai.networks.layers import Conv
from torch import Tensor, nn

from scd_plugin.ops.convolution import takes_short_ways
from scd_plugin.ops.grid import stage_strides, total_stride

__all__ = ["VERSIONS", "PrimusDecoder", "decode_octants", "primus_decoder", "primus_tokenizer"]

VERSIONS = (1, 2, 3)

# Primus V3's widths from full resolution down to the tokens of 8 x 8 x 8 voxels; deeper levels keep the last
_V3_WIDTHS = (32, 64, 256, 1024)


def primus_tokenizer(version: int, in_channels: int, hidden_size: int, patch_size: Sequence[int]) -> nn.Module:
    """Build the layers from image to token map, (B, in_channels, *img_size) to (B, D, *grid).

    Version 1 is a strided projection. The convolutional stems of versions 2 and 3 halve every axis at each level. For a
    token patch whose axes differ, levels are swapped for levels with a stride per axis; forward pass and parameter
    names stay the library's. The token patch has three axes, its edges are powers of two.

    Raises:
        ValueError: if there is no such version, or an edge is no power of two.

    Source: Primus, arXiv 2503.01835; dynamic-network-architectures 0.4.4 (Apache-2.0).
    """
    if version not in VERSIONS:
        msg = f"version must be one of {', '.join(map(str, VERSIONS))}, those of Primus; got {version!r}"
        raise ValueError(msg)
    _check_power_of_two(patch_size)
    strides = stage_strides(patch_size)
    depth = len(strides)
    if version == 1:
        tokenizer = PatchEmbed(tuple(patch_size), in_channels, hidden_size)
    elif version == 2:
        widths = [32, *[32 * 2**level for level in range(depth)]]
        tokenizer = PatchEmbed_deeper(in_channels, hidden_size, base_features=32, depth_per_level=(1,) * depth)
    else:
        widths = [*_V3_WIDTHS, *[_V3_WIDTHS[-1]] * depth][: depth + 1]
        tokenizer = PatchEmbedDeeperControlled(
            in_channels, hidden_size, depth_per_level=(1,) * depth, ch_per_level=tuple(widths)
        )
    if version > 1 and any(stride != (2, 2, 2) for stride in strides):
        _set_strides(tokenizer, strides, in_channels, widths, nonlin=nn.ReLU if version == 2 else nn.LeakyReLU)
        if version == 3:
            _set_skips(tokenizer, hidden_size, strides, widths)
    return tokenizer.apply(InitWeights_He(1e-2))


def primus_decoder(hidden_size: int, out_channels: int, patch_size: Sequence[int]) -> PrimusDecoder:
    """Build the layers from token map to logits, (B, D, *grid) to (B, out_channels, *img_size), each token alone.

    Raises:
        ValueError: if an edge of the token patch is no power of two.
    """
    _check_power_of_two(patch_size)
    decoder = PrimusDecoder(tuple(patch_size), hidden_size, out_channels)
    decoder.apply(InitWeights_He(1e-2))
    return decoder


class PrimusDecoder(PatchDecode):
    """The library's `PatchDecode`, computed on a CPU in half the time.

    A transposed convolution whose kernel is its stride makes the voxels of a place from that place alone: it is a
    matrix product. Channels stay side by side in memory, as tokens have them, until the last step.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, *grid) to (B, out_channels, *img_size)."""
        if not takes_short_ways(x):
            logits: Tensor = super().forward(x)
            return logits
        places: list[int] = list(x.shape[2:])
        *steps, last = _leaves(self)
        x = x.flatten(2).transpose(1, 2)
        kernels: list[Sequence[int]] = []
        for layer in steps:
            if isinstance(layer, nn.ConvTranspose3d):
                kernels.append(layer.kernel_size)
            x = _on_tokens(layer, x)
        x, size = _in_place(x, places, kernels)
        return _to_voxels(last, x, size)


def decode_octants(decoder: nn.Module, tokens: Tensor) -> Tensor:
    """Decode one voxel in each octant of every token: an early look that costs little.

    The decoder, of `primus_decoder`, works on each token alone and doubles step by step, so a voxel needs one path
    through its steps. The first step is taken whole; of the others only the part that leads to one voxel near the
    octant's middle. Tokens (B, N, D), from any places, give logits (B, classes, N, V); V is 8, and less where the first
    step leaves an axis alone, as it does the short ones of tokens that are no cubes.
    """
    x = tokens
    offset: list[int] | None = None
    for layer in _leaves(decoder):
        if offset is None or not isinstance(layer, nn.ConvTranspose3d):
            x = _on_tokens(layer, x)
            offset = [1, 1, 1] if offset is None else offset
        else:
            # towards the middle: on each axis first the upper half, from there on the lower ones
            taken = [min(edge - 1, upper) for edge, upper in zip(layer.kernel_size, offset)]
            offset = [upper - step for upper, step in zip(offset, taken)]
            x = F.linear(x, layer.weight[:, :, taken[0], taken[1], taken[2]].t(), layer.bias)
    return x.unflatten(1, (tokens.shape[1], -1)).permute(0, 3, 1, 2)  # type: ignore[no-untyped-call]


def _leaves(decoder: nn.Module) -> list[Any]:
    return [layer for layer in decoder.modules() if not list(layer.children())]


def _on_tokens(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply a layer of the decoder to (B, N, C); a transposed convolution makes (B, N * voxels, C') of it."""
    if isinstance(layer, nn.ConvTranspose3d):
        voxels = prod(layer.kernel_size)
        # a matrix product, not a convolution: ONNX takes no convolution with a parameter that was reshaped
        weight = layer.weight.permute(2, 3, 4, 1, 0).flatten(0, 3)
        bias = None if layer.bias is None else layer.bias.repeat(voxels)
        return F.linear(x, weight, bias).unflatten(-1, (voxels, -1)).flatten(1, 2)  # type: ignore[no-untyped-call]
    if isinstance(layer, LayerNormNd):
        return F.layer_norm(x, (x.shape[-1],), layer.weight, layer.bias, layer.eps)
    y: Tensor = layer(x)
    return y


def _in_place(x: Tensor, places: list[int], kernels: Sequence[Sequence[int]]) -> tuple[Tensor, list[int]]:
    """Bring voxels from token by token, step by step in each, to raster order; also returns the raster's size."""
    steps = len(kernels)
    x = x.unflatten(1, [*places, *[edge for kernel in kernels for edge in kernel]])  # type: ignore[no-untyped-call]
    order = [dim for axis in range(3) for dim in (1 + axis, *[4 + 3 * step + axis for step in range(steps)])]
    # lists: torch.compile takes no generator
    size = [places[axis] * prod([kernel[axis] for kernel in kernels]) for axis in range(3)]
    return x.permute(0, *order, -1).flatten(1, -2), size


def _to_voxels(layer: nn.ConvTranspose3d, x: Tensor, size: Sequence[int]) -> Tensor:
    """Apply the last step, (B, N, C) in raster order to (B, classes, *img_size).

    Its product comes out channel by channel, so that what is left is to weave rows of voxels together.
    """
    kernel = layer.kernel_size
    weight = layer.weight.permute(1, 2, 3, 4, 0).flatten(0, 3).expand(x.shape[0], -1, -1)
    x = x.transpose(1, 2)
    if layer.bias is None:
        y = torch.bmm(weight, x)
    else:
        y = torch.baddbmm(layer.bias.repeat_interleave(prod(kernel))[:, None], weight, x)
    y = y.unflatten(2, size).unflatten(1, (-1, *kernel))  # type: ignore[no-untyped-call]
    return y.permute(0, 1, 5, 2, 6, 3, 7, 4).flatten(6, 7).flatten(4, 5).flatten(2, 3)


def _check_power_of_two(patch_size: Sequence[int]) -> None:
    if any(edge & (edge - 1) for edge in patch_size):
        msg = (
            f"patch_size must be a power of two on each axis, since Primus's decoder doubles step by step; "
            f"got {tuple(patch_size)}"
        )
        raise ValueError(msg)


def _set_strides(
    tokenizer: nn.Module,
    strides: Sequence[tuple[int, ...]],
    in_channels: int,
    widths: Sequence[int],
    *,
    nonlin: type[nn.Module],
) -> None:
    """Swap levels as the library builds them for levels with a stride per axis; no kernel spans slices kept apart."""
    common: dict[str, Any] = {
        "conv_op": nn.Conv3d,
        "kernel_size": [3 if any(stride[axis] > 1 for stride in strides) else 1 for axis in range(3)],
        "norm_op": nn.InstanceNorm3d,
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": nonlin,
        "nonlin_kwargs": {"inplace": True},
    }
    tokenizer.stem = StackedResidualBlocks(
        1, input_channels=in_channels, output_channels=widths[0], initial_stride=1, conv_bias=True, **common
    )
    tokenizer.stages = nn.ModuleList(
        StackedResidualBlocks(
            1, input_channels=widths[i], output_channels=widths[i + 1], initial_stride=list(stride), **common
        )
        for i, stride in enumerate(strides)
    )


def _set_skips(
    tokenizer: nn.Module, hidden_size: int, strides: Sequence[tuple[int, ...]], widths: Sequence[int]
) -> None:
    """Swap V3's projections from every level to the token grid."""
    skips = []
    for level in range(len(strides)):
        left = total_stride(strides[level:], 3)
        skips.append(Conv[Conv.CONV, 3](widths[level], hidden_size, kernel_size=left, stride=left))
    tokenizer.proj_to_tokens = nn.ModuleList(skips)
