"""Positions on a 2-D or 3-D token grid: makes fixed sine-cosine ones, and moves learned ones to another grid."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["interpolate_pos_embed", "sincos_pos_embed"]


def interpolate_pos_embed(
    pos_embed: Tensor, old_grid: Sequence[int], new_grid: Sequence[int], *, num_prefix: int = 1
) -> Tensor:
    """Move learned positions to another token grid by linear interpolation along each axis.

    (1, num_prefix + prod(old_grid), D) become (1, num_prefix + prod(new_grid), D). Tokens without a place (CLS,
    register tokens) stand first and stay unchanged.

    Raises:
        ValueError: if the number of axes differs, or `pos_embed` does not belong to `old_grid`.
    """
    if len(old_grid) != len(new_grid) or pos_embed.shape[1] != num_prefix + prod(old_grid):
        msg = (
            f"positions for {pos_embed.shape[1] - num_prefix} tokens on grid {tuple(old_grid)} can't be moved to grid "
            f"{tuple(new_grid)}: the old grid must have that many tokens, and both as many axes"
        )
        raise ValueError(msg)
    prefix, places = pos_embed[:, :num_prefix], pos_embed[:, num_prefix:]
    volume = places.transpose(1, 2).reshape(1, -1, *old_grid)
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(new_grid)]
    volume = F.interpolate(volume.float(), size=tuple(new_grid), mode=mode).to(pos_embed.dtype)
    return torch.cat((prefix, volume.flatten(2).transpose(1, 2)), dim=1)


def sincos_pos_embed(grid_size: Sequence[int], channels: int) -> Tensor:
    """Sine-cosine embedding of every place of a 2-D or 3-D grid, axis by axis.

    With d axes there are `f = channels // (2 d)` frequencies an axis, `omega_i = 10000 ** (-i / f)`; the channels are
    sin, cos of the first axis, then of the second, then of the third. Channels that this leaves over (fewer than 2 d)
    are zero, so any width can be used. Returns (prod(grid_size), channels), float32, last axis fastest.

    Raises:
        ValueError: if `channels` is smaller than `2 * len(grid_size)`.

    Source: arXiv 2303.06522 (MTA); the 2-D form is that of MAE, arXiv 2111.06377.
    """
    spatial_dims = len(grid_size)
    num_frequencies = channels // (2 * spatial_dims)
    if num_frequencies < 1:
        msg = (
            f"channels must be at least {2 * spatial_dims} for sine-cosine positions on {spatial_dims} axes; "
            f"got {channels}"
        )
        raise ValueError(msg)
    # float64 as in the published network: float32 angles differ in the fifth digit at far places
    omega = 10000.0 ** (-torch.arange(num_frequencies, dtype=torch.float64) / num_frequencies)
    axes = torch.meshgrid(*[torch.arange(size, dtype=torch.float64) for size in grid_size], indexing="ij")
    parts: list[Tensor] = []
    for axis in axes:
        angle = axis.reshape(-1, 1) * omega
        parts += [angle.sin(), angle.cos()]
    embedding = torch.cat(parts, dim=1)
    padding = embedding.new_zeros(embedding.shape[0], channels - embedding.shape[1])
    return torch.cat((embedding, padding), dim=1).float()
