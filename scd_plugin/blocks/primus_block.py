"""Primus's transformer block with fewer operators: a GPU waits for each of them to be started."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.layers import apply_rot_embed_cat
from timm.models.eva import EvaAttention, EvaBlock
from torch import Tensor

from scd_plugin.ops.convolution import is_tracing

__all__ = ["PrimusBlock", "attend", "query_and_key"]


class PrimusBlock(EvaBlock):
    """timm's EVA block, with its weights and its results.

    Query and key get their rotary positions together instead of one after the other, and what several projections read
    is cast once.

    Source: timm 1.0.22 (Apache-2.0), `EvaBlock` and `EvaAttention`, with projections of their own for query, key and
    value and without attention masks, as Primus has them.
    """

    def forward(self, x: Tensor, rope: Tensor) -> Tensor:
        """(B, P + N, D) -> (B, P + N, D); `rope` as in `query_and_key`."""
        if is_tracing():
            # a traced graph is optimised by who runs it
            stock: Tensor = super().forward(x, rope)
            return stock
        attended = attend(self.attn, _as_autocast_has_it(self.norm1(x)), rope)
        if self.gamma_1 is not None:
            attended = self.gamma_1 * attended
        x = x + self.drop_path1(attended)
        mixed = self.mlp(_as_autocast_has_it(self.norm2(x)))
        if self.gamma_2 is not None:
            mixed = self.gamma_2 * mixed
        together: Tensor = x + self.drop_path2(mixed)
        return together


def query_and_key(attention: EvaAttention, x: Tensor, rope: Tensor) -> Tensor:
    """Query and key of attention over (B, P + N, D) with rotary positions, (2, B, heads, P + N, d).

    `rope` is that of timm: sines and cosines (N, 2 d) of the tokens that have a place, or (B, 1, N, 2 d). The P leading
    tokens, `attention.num_prefix_tokens`, have none.
    """
    first, projected = attention.num_prefix_tokens, []
    for project, norm in ((attention.q_proj, attention.q_norm), (attention.k_proj, attention.k_norm)):
        projected.append(norm(project(x).unflatten(2, (attention.num_heads, -1))))
    if is_tracing():
        # ONNX's older tracer takes the batch for a constant below
        heads = [one.transpose(1, 2) for one in projected]
        placed = [apply_rot_embed_cat(one[:, :, first:], rope) for one in heads]
        return torch.stack([torch.cat((one[:, :, :first], there), dim=2) for one, there in zip(heads, placed)])
    # heads come behind the tokens until the end: attention keeps that order, and its output needs no copy
    both = torch.stack(projected)
    turned = apply_rot_embed_cat(both[:, :, first:], rope.reshape(-1, rope.shape[-2], 1, rope.shape[-1]))
    return (torch.cat((both[:, :, :first], turned), dim=2) if first else turned).transpose(2, 3)


def attend(attention: EvaAttention, x: Tensor, rope: Tensor) -> Tensor:
    """Self-attention of (B, P + N, D), projected; `rope` as in `query_and_key`."""
    value = attention.v_proj(x).unflatten(2, (attention.num_heads, -1)).transpose(1, 2)
    query, key = query_and_key(attention, x, rope).to(value.dtype).unbind(0)
    dropout = attention.attn_drop.p if attention.training else 0.0
    mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
    projected = attention.proj(attention.norm(mixed.transpose(1, 2).flatten(2)))
    return attention.proj_drop(projected)


def _as_autocast_has_it(x: Tensor) -> Tensor:
    """Cast now what autocast would cast for each of the layers that read it."""
    device = x.device.type
    # the meta device has none
    on = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    return x.to(torch.get_autocast_dtype(device)) if on else x
