"""Scores of how much a token is worth keeping, computed without anything learned.

Each function gives one number a token, (B, N) float32, higher for tokens to keep. They serve a dense network that is to
be pruned without training, and score predictors as a start. Add scores only after `standardized`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from scd_plugin.ops.tokens import take_tokens

__all__ = [
    "attention_received",
    "neighbor_distance",
    "prediction_entropy",
    "relative_change",
    "standardized",
    "token_norm",
]

# Attention is averaged over at most this many queries, spread evenly: all of them would cost N x N numbers.
MAX_QUERIES = 256


def neighbor_distance(tokens: Tensor, grid_idx: Tensor, grid_size: Sequence[int]) -> Tensor:
    """Distance of each token from the mean of its neighbours, those of the 26 places around it that hold a token.

    In flat regions, where a token tells nothing that its neighbours do not, it is near 0. A token without neighbours is
    compared with the mean of all tokens. The unit is the root mean square of the tokens' norms. Tokens are (B, N, D),
    their places (B, N), int64, in a grid of three axes with N places or more.
    """
    tokens = tokens.float()
    marked = torch.cat((tokens, torch.ones_like(tokens[:, :, :1])), dim=2)
    places = marked.new_zeros(marked.shape[0], prod(grid_size), marked.shape[2])
    places = places.scatter(1, grid_idx.unsqueeze(-1).expand_as(marked), marked)
    volume = places.transpose(1, 2).unflatten(2, list(grid_size))  # type: ignore[no-untyped-call]
    # sums over the 27 places, the token itself among them; the last channel counts
    # padded by hand: pooling refuses a grid with fewer places than its kernel
    sums = F.avg_pool3d(F.pad(volume, (1,) * 6), kernel_size=3, stride=1) * 27
    around = take_tokens(sums.flatten(2).transpose(1, 2), grid_idx) - marked
    number = around[:, :, -1:].round()
    mean = torch.where(number > 0, around[:, :, :-1] / number.clamp_min(1), tokens.mean(dim=1, keepdim=True))
    scale = tokens.square().sum(dim=2).mean(dim=1, keepdim=True).sqrt()
    return (tokens - mean).norm(dim=2) / scale.clamp_min(1e-12)


def token_norm(tokens: Tensor) -> Tensor:
    """Length of each of the tokens (B, N, D)."""
    return tokens.float().norm(dim=2)


def relative_change(before: Tensor, after: Tensor) -> Tensor:
    """Change of each token in a block, in units of its length: tokens that settled lose little when they leave.

    Tokens are (B, N, D), as they entered the block and as they left it.
    """
    before, after = before.float(), after.float()
    return (after - before).norm(dim=2) / before.norm(dim=2).clamp_min(1e-12)


def attention_received(query: Tensor, key: Tensor, num_prefix: int = 0) -> Tensor:
    """Mean attention that each token gets, over heads and over at most `MAX_QUERIES` evenly spread queries.

    Query and key are (B, heads, P + N, d), positions applied; the P leading tokens take part and get no score.
    """
    step = -(-query.shape[2] // MAX_QUERIES)
    asked = query[:, :, ::step].float() * query.shape[3] ** -0.5
    attention = (asked @ key.float().transpose(2, 3)).softmax(dim=3)
    return attention.mean(dim=(1, 2))[:, num_prefix:]


def prediction_entropy(logits: Tensor, *, regions: bool = False) -> Tensor:
    """Entropy of the class probabilities in nats, averaged over a token's voxels: high where the network is unsure.

    Logits are an early prediction (B, classes, N, V) for V voxels of each token. Of `regions`, each of which is there
    or not whatever the others are, it is the sum of their entropies; so it is of a single output, which has no other
    class to be told from.
    """
    logits = logits.float()
    if regions or logits.shape[1] == 1:
        return (F.softplus(logits) - logits * logits.sigmoid()).sum(dim=1).mean(dim=2)
    log_share = logits.log_softmax(dim=1)
    return -(log_share.exp() * log_share).sum(dim=1).mean(dim=2)


def standardized(scores: Tensor) -> Tensor:
    """Scale scores (B, N) to mean 0 and standard deviation 1 in each sample; where all are equal, to 0."""
    centred = scores - scores.mean(dim=1, keepdim=True)
    return centred / centred.square().mean(dim=1, keepdim=True).sqrt().clamp_min(1e-6)
