"""Predicts a score for each token: how much it is worth keeping."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ScorePredictor"]


class ScorePredictor(nn.Module):
    """Logit of the probability that a token is worth keeping, from the token itself and from all tokens' mean.

    Half of the channels stay local, the other half are averaged over the tokens, so that a score can weigh a token
    against the image it is in.

    Raises:
        ValueError: if `hidden_size` is not a multiple of 4.

    Source: arXiv 2303.06522, STP; the local/global split is that of DynamicViT, arXiv 2106.02034.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        if hidden_size % 4 != 0:
            msg = f"hidden_size must be a multiple of 4 for the score predictor; got {hidden_size}"
            raise ValueError(msg)
        self.norm = nn.LayerNorm(hidden_size)
        self.project = nn.Linear(hidden_size, hidden_size)
        self.reduce1 = nn.Linear(hidden_size, hidden_size // 2)
        self.reduce2 = nn.Linear(hidden_size // 2, hidden_size // 4)
        self.score = nn.Linear(hidden_size // 4, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        """Score tokens, (B, N, D) -> (B, N), float32 under autocast too."""
        hidden = F.gelu(self.project(self.norm(tokens)))
        local, across = hidden.chunk(2, dim=-1)
        across = across.mean(dim=1, keepdim=True).expand_as(local)
        hidden = F.gelu(self.reduce1(torch.cat((local, across), dim=-1)))
        hidden = F.gelu(self.reduce2(hidden))
        # a weighted sum, not self.score(hidden): autocast would round that to half precision, where scores tie
        return (hidden.float() * self.score.weight[0].float()).sum(dim=-1) + self.score.bias.float()
