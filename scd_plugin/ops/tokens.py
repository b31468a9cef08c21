"""Take tokens out of a sequence, and put several sets of tokens back where they came from."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

__all__ = ["coarse_cells", "exit_stages", "grid_places", "restore_tokens", "take_tokens"]


def take_tokens(tokens: Tensor, idx: Tensor) -> Tensor:
    """Take the tokens (B, K, C) at the positions (B, K), int64, of each sample out of (B, N, C)."""
    return tokens.gather(1, idx.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


def restore_tokens(tokens: list[Tensor], grid_idx: list[Tensor]) -> Tensor:
    """Put token sets back at their places in the grid: the inverse of taking them out.

    Sets (B, K_i, C) with places (B, K_i), int64, which hold every place 0..L-1 exactly once, give (B, L, C), in
    ascending place.

    Raises:
        ValueError: if the two lists differ in length.
    """
    if len(tokens) != len(grid_idx):
        msg = f"restore_tokens needs one index tensor per token set; got {len(tokens)} sets and {len(grid_idx)}"
        raise ValueError(msg)
    values = torch.cat(tokens, dim=1)
    places = torch.cat(grid_idx, dim=1).unsqueeze(-1).expand(-1, -1, values.shape[-1])
    # every place is written to: nothing has to be cleared before
    return torch.empty_like(values).scatter_(1, places, values)


def exit_stages(grid_idx: list[Tensor]) -> Tensor:
    """Number i of the set (B, K_i) that holds each place of the grid: (B, L), int64; sets as in `restore_tokens`."""
    stage = [torch.full_like(idx, i) for i, idx in enumerate(grid_idx)]
    places = torch.cat(grid_idx, dim=1)
    return torch.empty_like(places).scatter_(1, places, torch.cat(stage, dim=1))


def grid_places(num_tokens: int) -> Tensor:
    """Every place of a grid in ascending order, (1, L), int64."""
    return torch.arange(num_tokens).unsqueeze(0)


def coarse_cells(grid_size: Sequence[int], edge: int) -> Tensor:
    """Number of the cell of `edge` tokens per axis that holds each place of a grid: (L,), int64, in ascending place."""
    coarse = [-(-tokens // edge) for tokens in grid_size]
    cells = torch.arange(prod(coarse)).reshape(coarse)
    for axis, tokens in enumerate(grid_size):
        cells = cells.repeat_interleave(edge, dim=axis).narrow(axis, 0, tokens)
    return cells.flatten()
