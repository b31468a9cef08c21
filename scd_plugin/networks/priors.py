"""Training-free scores inside of Primus: gathers the inputs of each score in `scd_plugin.ops`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from timm.models.eva import EvaBlock
from torch import Tensor

from scd_plugin.blocks.primus_block import query_and_key
from scd_plugin.ops.training_free_scores import (
    attention_received,
    neighbor_distance,
    prediction_entropy,
    relative_change,
    standardized,
    token_norm,
)

__all__ = ["PRIORS", "prior_scores"]

PRIORS = ("neighbors", "norm", "change", "attention", "entropy")


def prior_scores(
    kind: str,
    *,
    before: Tensor,
    after: Tensor,
    num_prefix: int,
    grid_idx: Tensor,
    grid_size: Sequence[int],
    next_block: EvaBlock,
    rope: Tensor,
    decode: Callable[[Tensor], Tensor],
    regions: bool = False,
) -> Tensor:
    """Scores (B, N), float32, of the tokens behind a block, with mean 0 and standard deviation 1 in each sample.

    `"neighbors"`: distance from the neighbours' mean. `"norm"`: length. `"change"`: how much the block moved the token.
    `"attention"`: the attention that it gets in the next block. `"entropy"`: of the logits, if it were decoded now.

    Args:
        kind: one of `PRIORS`.
        before: (B, P + N, D), as they entered the block.
        after: as they left it; the P tokens without a place get no score.
        num_prefix: P.
        grid_idx: (B, N), int64, places in a grid of three axes.
        grid_size: places per axis.
        next_block: the EVA block that follows.
        rope: rotary positions of the N tokens, as that block takes them.
        decode: (B, N, D) to (B, classes, N, V), logits of some voxels of each token.
        regions: whether these are logits of regions, which may overlap, instead of classes.
    """
    if kind == "neighbors":
        scores = neighbor_distance(after[:, num_prefix:], grid_idx, grid_size)
    elif kind == "norm":
        scores = token_norm(after[:, num_prefix:])
    elif kind == "change":
        scores = relative_change(before[:, num_prefix:], after[:, num_prefix:])
    elif kind == "attention":
        query, key = query_and_key(next_block.attn, next_block.norm1(after), rope).unbind(0)
        scores = attention_received(query, key, num_prefix)
    else:
        scores = prediction_entropy(decode(after[:, num_prefix:]), regions=regions)
    return standardized(scores)
