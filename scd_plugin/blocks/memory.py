"""Memory of the tokens that left, which later blocks attend to: the tokens themselves, or sums over coarse cells."""

# without postponed annotations, which TorchScript can't read
from collections.abc import Sequence
from functools import partial
from math import prod

import torch
from torch import Tensor, nn

from scd_plugin.blocks.derived import derive_buffer
from scd_plugin.blocks.transformer import Memory
from scd_plugin.ops.tokens import coarse_cells

__all__ = ["MEMORY", "PooledMemory", "TokenMemory", "build_memory"]

MEMORY = ("none", "tokens", "pooled")

CELL_EDGE = 2
"""tokens per axis of a cell of the pooled memory"""


class TokenMemory(nn.Module):
    """Remembers every token that left, as it was then."""

    def forward(self, before: Memory | None, left: Tensor, left_idx: Tensor) -> Memory:
        """Add what left, (B, M, D) from the places (B, M), int64, to the memory of the stages before."""
        del left_idx
        return Memory(left if before is None else torch.cat((before.tokens, left), dim=1), None)


class PooledMemory(nn.Module):
    """Remembers the tokens that left summed over coarse cells of the grid, and how many each cell holds.

    A sum stands for the mean, of which the LayerNorm before attention makes the same. `grid_size` is in tokens per
    axis; a cell has `CELL_EDGE` of them, fewer at the end of an odd axis.

    Source: attention by the number of tokens that a summary stands for, Token Merging, arXiv 2210.09461.
    """

    cell_idx: Tensor

    def __init__(self, grid_size: Sequence[int]) -> None:
        super().__init__()
        derive_buffer(self, "cell_idx", partial(coarse_cells, tuple(grid_size), CELL_EDGE))
        # not from the cells' numbers, which are not there on the meta device
        self.num_cells = prod(-(-tokens // CELL_EDGE) for tokens in grid_size)

    def forward(self, before: Memory | None, left: Tensor, left_idx: Tensor) -> Memory:
        """As `TokenMemory.forward`; the memory has one token a cell."""
        cells = self.cell_idx[left_idx]
        batch, _, width = left.shape
        sums = left.new_zeros(batch, self.num_cells, width) if before is None else before.tokens
        sizes = None if before is None else before.size
        if sizes is None:
            sizes = left.new_zeros(batch, self.num_cells)
        sums = sums.scatter_add(1, cells.unsqueeze(-1).expand(-1, -1, width), left)
        return Memory(sums, sizes.scatter_add(1, cells, torch.ones_like(left[:, :, 0])))


def build_memory(kind: str, grid_size: Sequence[int]) -> TokenMemory | PooledMemory | None:
    """Build a memory of `MEMORY`; None for none."""
    if kind == "none":
        return None
    return PooledMemory(grid_size) if kind == "pooled" else TokenMemory()
