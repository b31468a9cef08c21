"""Pre-norm transformer blocks with fused attention: timm's own, with the settings that ViT-based SCD uses."""

# without postponed annotations, which TorchScript can't read
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from monai.networks.blocks import CrossAttentionBlock
from timm.layers import Mlp
from timm.models.vision_transformer import Block
from torch import Tensor, nn

__all__ = ["KeptAttentionBlock", "Memory", "MemoryBlock", "transformer_blocks"]


def transformer_blocks(
    num_layers: int,
    *,
    hidden_size: int,
    mlp_dim: int,
    num_heads: int,
    qkv_bias: bool = True,
    dropout_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    memory: bool = False,
) -> nn.ModuleList:
    """Stack of ViT blocks (LayerNorm eps 1e-6, GELU, `scaled_dot_product_attention`).

    Dropout comes after the projections of attention and feed-forward layer, whose width is `mlp_dim`. Stochastic depth
    rises linearly from 0 at the first block to `drop_path_rate` at the last.
    With `memory` each is a `MemoryBlock`, which has the same weights.

    Raises:
        ValueError: if `hidden_size` is not divisible by `num_heads`, or `num_layers` is not positive.
    """
    if num_layers < 1:
        msg = f"num_layers must be at least 1; got {num_layers}"
        raise ValueError(msg)
    if hidden_size % num_heads != 0:
        msg = f"hidden_size must be divisible by num_heads; got hidden_size {hidden_size} and num_heads {num_heads}"
        raise ValueError(msg)
    # timm takes the feed-forward width as a float ratio and truncates the product: half a unit more hits it exactly
    mlp_ratio = (mlp_dim + 0.5) / hidden_size
    depths = [drop_path_rate * i / max(1, num_layers - 1) for i in range(num_layers)]
    kind = MemoryBlock if memory else Block
    return nn.ModuleList(
        kind(
            hidden_size,
            num_heads,
            mlp_ratio=mlp_ratio,
            qkv_bias=qkv_bias,
            proj_drop=dropout_rate,
            drop_path=depth,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
        )
        for depth in depths
    )


class Memory(NamedTuple):
    """Tokens that give keys and values to other tokens, and are not changed themselves."""

    tokens: Tensor
    """(B, M, D)"""
    size: Tensor | None
    """(B, M), how many tokens each stands for: one of size n weighs as n equal tokens, one of size 0 is not seen.
    None where all stand for themselves"""


class MemoryBlock(Block):
    """The same block, with the same weights, whose tokens also attend to a memory.

    The memory passes the block's own first norm and its projection to keys and values; it costs no query, no
    feed-forward layer, and no parameter.
    """

    def forward(self, x: Tensor, memory: Memory | None) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        num_tokens, width, heads = x.shape[1], x.shape[2], self.attn.num_heads
        seen = self.norm1(x if memory is None else torch.cat((x, memory.tokens), dim=1))
        weight, bias = self.attn.qkv.weight, self.attn.qkv.bias
        query = F.linear(seen[:, :num_tokens], weight[:width], None if bias is None else bias[:width])
        keys_values = F.linear(seen, weight[width:], None if bias is None else bias[width:])
        query = query.reshape(x.shape[0], num_tokens, heads, -1).transpose(1, 2)
        key, value = keys_values.reshape(x.shape[0], seen.shape[1], 2, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        mask: Tensor | None = None
        if memory is not None:
            size = memory.size
            if size is not None:
                # the log of 1 for the tokens themselves, and of 0 for what is not to be seen
                mask = F.pad(size.log(), (num_tokens, 0)).unsqueeze(1).unsqueeze(1).to(query.dtype)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2).flatten(2)
        x = x + self.drop_path1(self.attn.proj_drop(self.attn.proj(attended)))
        mixed: Tensor = x + self.drop_path2(self.mlp(self.norm2(x)))
        return mixed


class KeptAttentionBlock(nn.Module):
    """Pre-norm block in which every token attends only to the first tokens of the sequence.

    Its cost grows with the length times the number of these tokens, not with the square of the length.
    """

    def __init__(self, hidden_size: int, mlp_dim: int, num_heads: int, *, qkv_bias: bool = True) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(hidden_size, eps=1e-6)
        self.attn = CrossAttentionBlock(hidden_size, num_heads, qkv_bias=qkv_bias, use_flash_attention=True)
        self.norm2 = nn.LayerNorm(hidden_size, eps=1e-6)
        self.mlp = Mlp(hidden_size, mlp_dim)

    def forward(self, x: Tensor, num_kept: int) -> Tensor:
        """(B, N, D) -> (B, N, D); all tokens attend to the first `num_kept`."""
        normed = self.norm1(x)
        x = x + self.attn(normed, normed[:, :num_kept])
        mixed: Tensor = x + self.mlp(self.norm2(x))
        return mixed
