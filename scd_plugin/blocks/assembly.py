"""Token completion: puts token sets that left at different depths back into one full sequence."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import torch
from timm.layers import LayerScale
from torch import Tensor, nn

from scd_plugin.blocks.derived import derive_buffer
from scd_plugin.blocks.transformer import KeptAttentionBlock, transformer_blocks
from scd_plugin.ops import restore_tokens, sincos_pos_embed, take_tokens

__all__ = ["COMPLETION", "MaskTokenCompletion", "MultiLayerTokenAssembly"]

COMPLETION = ("assembly", "assembly_to_kept", "mask_token")


class _Refine(nn.Module):
    """The common end of completions: positions, transformer blocks, LayerNorm, a projection back to D and LayerScale.

    Args: as in `MultiLayerTokenAssembly`, which hands them on as its `refining`.
    """

    pos_embed: Tensor
    attend_kept: Final[bool]

    def __init__(
        self,
        grid_size: Sequence[int],
        *,
        hidden_size: int,
        completion_hidden_size: int,
        num_layers: int = 1,
        num_heads: int = 12,
        qkv_bias: bool = True,
        attend_kept: bool = False,
        init_values: float | None = None,
    ) -> None:
        super().__init__()
        derive_buffer(self, "pos_embed", partial(sincos_pos_embed, tuple(grid_size), completion_hidden_size))
        self.attend_kept = attend_kept
        width, mlp_dim = completion_hidden_size, 4 * completion_hidden_size
        self.blocks = (
            nn.ModuleList(KeptAttentionBlock(width, mlp_dim, num_heads, qkv_bias=qkv_bias) for _ in range(num_layers))
            if attend_kept
            else transformer_blocks(
                num_layers, hidden_size=width, mlp_dim=mlp_dim, num_heads=num_heads, qkv_bias=qkv_bias
            )
        )
        self.norm = nn.LayerNorm(completion_hidden_size, eps=1e-6)
        self.project = nn.Linear(completion_hidden_size, hidden_size)
        self.scale = nn.Identity() if init_values is None else LayerScale(hidden_size, init_values)

    def forward(self, cls: Tensor, sets: list[Tensor], grid_idx: list[Tensor]) -> Tensor:
        """(B, R, C), (B, K_i, C) and (B, K_i) in order of leaving -> (B, L, D) in ascending grid place.

        CLS and its like have no position and are dropped at the end. Attention does not ask for an order, so tokens
        stay in their sets until then; the survivors stand first, which makes "those kept" a slice.
        """
        idx = torch.cat(grid_idx[::-1], dim=1)
        positions = take_tokens(self.pos_embed.expand(idx.shape[0], -1, -1), idx)
        x = torch.cat((cls, torch.cat(sets[::-1], dim=1) + positions), dim=1)
        kept = x.shape[1] - sets[0].shape[1]
        for block in self.blocks:
            if self.attend_kept:  # noqa: SIM108  (TorchScript leaves out the branch that does not fit the blocks)
                x = block(x, kept)
            else:
                x = block(x)
        # LayerNorm and projection act on each token alone, so CLS can go before them
        return self.scale(self.project(restore_tokens([self.norm(x[:, cls.shape[1] :])], [idx])))


class MultiLayerTokenAssembly(nn.Module):
    """MTA: refill the grid with the pruned tokens themselves, marked with the depth they left at.

    Each set passes a linear layer of its own and gets a learnable layer embedding; all return to their places, get
    fixed positions and pass `num_layers` transformer blocks together.

    Args:
        grid_size: tokens per axis, 2 or 3 axes.
        num_sets: token sets: one per pruning stage, and the survivors.
        hidden_size: D of the incoming and outgoing tokens.
        completion_hidden_size: D_c inside; any width of at least two channels an axis and a multiple of `num_heads`.
        refining: of the transformer blocks: `num_layers`, `num_heads`, `qkv_bias`, and `attend_kept`, with which all
            tokens attend to those alone that passed the first pruning stage (and to CLS). The method lets them attend
            to all, which costs the square of the full length. `init_values` is where LayerScale on the result starts;
            by default there is none.

    Source: arXiv 2303.06522, MTA. Attention to kept tokens is this project's own.
    """

    def __init__(
        self,
        grid_size: Sequence[int],
        num_sets: int,
        *,
        hidden_size: int,
        completion_hidden_size: int,
        **refining: Any,
    ) -> None:
        super().__init__()
        self.project = nn.ModuleList(nn.Linear(hidden_size, completion_hidden_size) for _ in range(num_sets))
        self.layer_embed = nn.Parameter(torch.zeros(num_sets, 1, 1, completion_hidden_size))
        self.refine = _Refine(
            grid_size, hidden_size=hidden_size, completion_hidden_size=completion_hidden_size, **refining
        )

    def forward(self, cls: Tensor, token_sets: list[Tensor], grid_idx: list[Tensor]) -> Tensor:
        """Assemble the full sequence.

        Args:
            cls: (B, R, D), tokens without a place, which travelled with the survivors and are treated as such: CLS,
                register tokens, or none at all (R = 0).
            token_sets: `num_sets` tensors (B, K_i, D), in order of leaving, the survivors last.
            grid_idx: for each set (B, K_i), int64, places in the grid; together every place once.

        Returns:
            (B, L, D), in ascending grid place.
        """
        sets: list[Tensor] = []
        for i, project in enumerate(self.project):
            tokens = token_sets[i]
            if i == len(self.project) - 1:
                tokens = torch.cat((cls, tokens), dim=1)
            sets.append(project(tokens) + self.layer_embed[i])
        survivors = sets.pop()
        sets.append(survivors[:, cls.shape[1] :])
        return self.refine(survivors[:, : cls.shape[1]], sets, grid_idx)


class MaskTokenCompletion(nn.Module):
    """MIM-style completion, the paper's negative control: one learnable token stands for all that were pruned.

    Args: as in `MultiLayerTokenAssembly`, without `num_sets`.

    Source: arXiv 2303.06522, ablation; mask tokens as in MAE, arXiv 2111.06377.
    """

    def __init__(
        self, grid_size: Sequence[int], *, hidden_size: int, completion_hidden_size: int, **refining: Any
    ) -> None:
        super().__init__()
        self.project = nn.Linear(hidden_size, completion_hidden_size)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, completion_hidden_size))
        self.refine = _Refine(
            grid_size, hidden_size=hidden_size, completion_hidden_size=completion_hidden_size, **refining
        )

    def forward(self, cls: Tensor, token_sets: list[Tensor], grid_idx: list[Tensor]) -> Tensor:
        """Like `MultiLayerTokenAssembly.forward`; only the last set, the survivors, is looked at."""
        survivors = self.project(torch.cat((cls, token_sets[-1]), dim=1))
        mask_token = self.mask_token.to(survivors.dtype)
        sets = [mask_token.expand(idx.shape[0], idx.shape[1], -1) for idx in grid_idx[:-1]]
        sets.append(survivors[:, cls.shape[1] :])
        return self.refine(survivors[:, : cls.shape[1]], sets, grid_idx)
