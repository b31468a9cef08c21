"""Memory for SCD-Primus: tokens that stay go on seeing those that left, as they were when they left."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import apply_rot_embed_cat
from torch import Tensor, nn

from scd_plugin import SCDPrimus
from scd_plugin.blocks.primus_block import PrimusBlock
from scd_plugin.blocks.pruning import PrunedTokens, SoftTopKPruning
from scd_plugin.ops import take_tokens


class Memory:
    """What left last: tokens (B, M, D), and their rotary positions (B, 1, M, 2 d)."""

    def __init__(self, positions: nn.Module) -> None:
        self._positions = positions

    def keep(self, pruned: PrunedTokens) -> None:
        """Remember what left at a stage."""
        everywhere = self._positions.get_embed().expand(len(pruned.left), -1, -1)
        self.tokens, self.rope = pruned.left, take_tokens(everywhere, pruned.left_idx).unsqueeze(1)


class RememberingStage(SoftTopKPruning):
    """A stage that puts what leaves into a memory; a hook would not be copied with its network."""

    memory: Memory

    def forward(self, *args: Any) -> PrunedTokens:
        """As `SoftTopKPruning.forward`."""
        pruned = super().forward(*args)
        self.memory.keep(pruned)
        return pruned


class RememberingBlock(nn.Module):
    """Primus's block, in which tokens have keys and values of a memory to attend to as well.

    Source: the idea that survivors look at what left, HRViT, MICCAI 2025; there by deformable attention to a snapshot.
    """

    def __init__(self, block: PrimusBlock, memory: Memory) -> None:
        super().__init__()
        self.block = block
        self.memory = memory

    def forward(self, x: Tensor, rope: Tensor) -> Tensor:
        """(B, K, D) -> (B, K, D); `rope` is (B, 1, K, 2 d)."""
        x = x + self.block.drop_path1(self.block.gamma_1 * self._attend(self.block.norm1(x), rope))
        together: Tensor = x + self.block.drop_path2(self.block.gamma_2 * self.block.mlp(self.block.norm2(x)))
        return together

    def _attend(self, x: Tensor, rope: Tensor) -> Tensor:
        attention, norm = self.block.attn, self.block.norm1
        whole = torch.cat((x, norm(self.memory.tokens)), dim=1)
        query = apply_rot_embed_cat(self._heads(attention.q_proj(x)), rope)
        key = apply_rot_embed_cat(self._heads(attention.k_proj(whole)), torch.cat((rope, self.memory.rope), dim=2))
        value = self._heads(attention.v_proj(whole))
        mixed = F.scaled_dot_product_attention(query.to(value.dtype), key.to(value.dtype), value)
        projected: Tensor = attention.proj(attention.norm(mixed.transpose(1, 2).flatten(2)))
        return projected

    def _heads(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(2, (self.block.attn.num_heads, -1)).transpose(1, 2)


def with_memory(network: SCDPrimus) -> SCDPrimus:
    """Let every block behind the one stage of a network without registers attend to what left there."""
    (stage,) = network.stages
    memory = Memory(network.eva.rope)
    remembering = RememberingStage(
        network.eva.embed_dim, stage.keep_ratio, after_block=stage.after_block, sampling=stage.sampling, norm_left=False
    )
    remembering.load_state_dict(stage.state_dict())
    remembering.memory = memory
    network.stages[0] = remembering
    before, after = network.eva.blocks[: stage.after_block], network.eva.blocks[stage.after_block :]
    network.eva.blocks = nn.ModuleList([*before, *[RememberingBlock(block, memory) for block in after]])
    return network
