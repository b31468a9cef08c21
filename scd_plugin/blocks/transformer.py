"""Pre-norm transformer blocks with fused attention: timm's own, with the settings that ViT-based SCD uses."""

from __future__ import annotations

from functools import partial

from monai.networks.blocks import CrossAttentionBlock
from timm.layers import Mlp
from timm.models.vision_transformer import Block
from torch import Tensor, nn

__all__ = ["KeptAttentionBlock", "transformer_blocks"]


def transformer_blocks(
    num_layers: int,
    *,
    hidden_size: int,
    mlp_dim: int,
    num_heads: int,
    qkv_bias: bool = True,
    dropout_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> nn.ModuleList:
    """Stack of ViT blocks (LayerNorm eps 1e-6, GELU, `scaled_dot_product_attention`).

    Dropout comes after the projections of attention and feed-forward layer, whose width is `mlp_dim`. Stochastic depth
    rises linearly from 0 at the first block to `drop_path_rate` at the last.

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
    return nn.ModuleList(
        Block(
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
