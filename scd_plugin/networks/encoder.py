"""Sparse encoding: a vision transformer that lets tokens leave on the way."""

from collections.abc import Sequence
from functools import partial
from math import prod
from typing import NamedTuple

import torch
from monai.networks.layers import Conv
from torch import Tensor, nn

from scd_plugin.blocks import SoftTopKPruning, transformer_blocks
from scd_plugin.blocks.derived import derive_buffer
from scd_plugin.blocks.memory import build_memory
from scd_plugin.blocks.transformer import Memory
from scd_plugin.ops.grid import token_grid
from scd_plugin.ops.tokens import grid_places

__all__ = ["EncodedTokens", "SparseViT"]


class EncodedTokens(NamedTuple):
    """The output of an encoder. With S pruning stages there are S + 1 token sets; without any there is one."""

    prefix: Tensor
    """(B, P, D), tokens without a place, such as CLS"""
    token_sets: list[Tensor]
    """(B, K_i, D), tokens that left at stage 0..S-1, each as it was then; last the survivors"""
    grid_idx: list[Tensor]
    """(B, K_i), int64, for each set the tokens' places in the grid, ascending"""
    hidden_states: list[Tensor]
    """(B, L, D) after each block of `tap_blocks`; empty where tokens are pruned"""


class SparseViT(nn.Module):
    """ViT with Soft-topK Token Pruning after some of its blocks.

    Args: as in `SCDUNETR`, spelled out: sizes are one int per axis, `prune_after` is empty for a plain, dense ViT, and
    `keep_ratios` holds a share in (0, 1) for each stage. A dense ViT also returns the full sequence after each of
    `tap_blocks`, 1-based. `norm_left` is that of `SoftTopKPruning`.

    Source: arXiv 2303.06522; ViT arXiv 2010.11929.
    """

    grid_idx: Tensor

    def __init__(
        self,
        in_channels: int,
        img_size: Sequence[int],
        patch_size: Sequence[int],
        *,
        hidden_size: int = 768,
        mlp_dim: int = 3072,
        num_layers: int = 12,
        num_heads: int = 12,
        prune_after: Sequence[int] = (3, 6, 9),
        keep_ratios: Sequence[float] = (0.25, 0.25, 0.25),
        tap_blocks: Sequence[int] = (),
        tau: float = 1.0,
        sampling: str = "soft_topk",
        norm_left: bool = True,
        memory: str = "none",
        qkv_bias: bool = True,
        dropout_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.img_size = tuple(img_size)
        self.in_channels = in_channels
        self.grid_size = token_grid(img_size, patch_size)
        self.tap_blocks = tuple(tap_blocks)
        self.patch_embed = Conv[Conv.CONV, len(self.img_size)](
            in_channels, hidden_size, kernel_size=tuple(patch_size), stride=tuple(patch_size)
        )
        num_tokens = prod(self.grid_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, hidden_size))
        self.pos_embed = nn.Parameter(torch.zeros(1, num_tokens + 1, hidden_size))
        self.dropout = nn.Dropout(dropout_rate)
        derive_buffer(self, "grid_idx", partial(grid_places, num_tokens))
        self.memory = build_memory(memory if prune_after else "none", self.grid_size)
        self.blocks = transformer_blocks(
            num_layers,
            hidden_size=hidden_size,
            mlp_dim=mlp_dim,
            num_heads=num_heads,
            qkv_bias=qkv_bias,
            dropout_rate=dropout_rate,
            drop_path_rate=drop_path_rate,
            memory=self.memory is not None,
        )
        self.stages = nn.ModuleList(
            SoftTopKPruning(hidden_size, ratio, after_block=block, tau=tau, sampling=sampling, norm_left=norm_left)
            for block, ratio in zip(prune_after, keep_ratios)
        )
        self.norm = nn.LayerNorm(hidden_size, eps=1e-6)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """ViT initialisation: truncated normal (0.02) weights, zero biases."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        # as a linear layer on the flattened patch, like MAE
        nn.init.xavier_uniform_(self.patch_embed.weight.flatten(1))
        nn.init.zeros_(self.patch_embed.bias)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def forward(self, image: Tensor) -> EncodedTokens:
        """Encode an image (B, in_channels, *img_size). CLS and survivors come after the final LayerNorm."""
        tokens = self.patch_embed(image).flatten(2).transpose(1, 2)
        tokens = torch.cat((self.cls_token.expand(tokens.shape[0], -1, -1), tokens), dim=1)
        tokens = self.dropout(tokens + self.pos_embed)
        idx = self.grid_idx.expand(tokens.shape[0], -1)
        token_sets: list[Tensor] = []
        grid_idx: list[Tensor] = []
        hidden_states: list[Tensor] = []
        policy: Tensor | None = None
        memory: Memory | None = None
        for i, block in enumerate(self.blocks):
            if self.memory is None:  # noqa: SIM108  (TorchScript leaves out the branch that does not fit the blocks)
                tokens = block(tokens)
            else:
                tokens = block(tokens, memory)
            if i + 1 in self.tap_blocks:
                hidden_states.append(tokens[:, 1:])
            for stage in self.stages:
                if stage.after_block == i + 1:
                    pruned = stage(tokens, idx, policy, None, 1)
                    tokens = pruned.kept
                    idx = pruned.kept_idx
                    policy = pruned.policy
                    token_sets.append(pruned.left)
                    grid_idx.append(pruned.left_idx)
                    if self.memory is not None:
                        memory = self.memory(memory, pruned.left_raw, pruned.left_idx)
        tokens = self.norm(tokens)
        token_sets.append(tokens[:, 1:])
        grid_idx.append(idx)
        return EncodedTokens(tokens[:, :1], token_sets, grid_idx, hidden_states)
