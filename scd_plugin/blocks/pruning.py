"""Soft-topK Token Pruning (STP): one stage that keeps a fixed number of tokens and lets the others leave."""

from numbers import Real
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scd_plugin.blocks.score import ScorePredictor
from scd_plugin.ops import gumbel_noise_like, keep_count, partition_topk, position_hash, straight_through, take_tokens

__all__ = ["SAMPLING", "PrunedTokens", "SoftTopKPruning", "check_sampling"]

SAMPLING = ("soft_topk", "topk", "random")

# Scores of equal tokens were seen to differ by up to 5e-6 of their magnitude between runtimes.
TIE_TOLERANCE = 1e-5


class PrunedTokens(NamedTuple):
    """The output of a stage: `K` tokens kept, `M = N - K` left, both in ascending grid place."""

    kept: Tensor
    """(B, P + K, D), first the P tokens without a place, which always stay"""
    kept_idx: Tensor
    """(B, K), int64, places in the grid"""
    left: Tensor
    """(B, M, D), after `norm_left`"""
    left_idx: Tensor
    """(B, M), int64, places in the grid"""
    policy: Tensor | None
    """(B, K), the kept tokens' policy up to here, ones that carry gradients; None where nothing is learned"""
    left_raw: Tensor
    """(B, M, D), before `norm_left`"""


def check_sampling(sampling: str, tau: float) -> None:
    """Raise ValueError for an unknown way of choosing, and for a temperature that is not positive."""
    if not isinstance(tau, Real) or not tau > 0:
        msg = f"tau must be positive, the temperature of the softmax over scores; got {tau!r}"
        raise ValueError(msg)
    if sampling not in SAMPLING:
        msg = f"sampling must be one of {', '.join(SAMPLING)}; got {sampling!r}"
        raise ValueError(msg)


class SoftTopKPruning(nn.Module):
    """Keep the `keep_ratio` best-scored share of the tokens.

    Training draws Gumbel noise on the scores, which explores other choices, and multiplies kept tokens by their
    straight-through policy and leaving tokens by one minus it: values stay, the score predictor learns from both.
    The policy accumulates: a token kept at a later stage is multiplied by its policies of all stages so far, as in
    the published network. Evaluation takes the highest scores, without noise.

    Args:
        hidden_size: D.
        keep_ratio: share of the tokens kept, in (0, 1]; an attribute that may be set to another. With 1 none leaves.
        after_block: 1-based number of the transformer block that this stage follows. Only its owner uses it.
        tau: temperature of the softmax that carries the gradient.
        sampling: `"soft_topk"` as above; `"topk"` without noise; `"random"` without scores: a random choice in
            training, a fixed one by position in evaluation. The last two are the paper's controls.
        learn_score: False for no score predictor; the choice is by the `prior` given to `forward`, without noise.
        norm_left: LayerNorm for the leaving tokens; off where they are thrown away or normed elsewhere.

    Raises:
        ValueError: if `tau` is not positive or `sampling` is unknown; see also `keep_count`.

    Source: arXiv 2303.06522, STP. There `tau` is the same, and `1 - keep_ratio` is the pruning ratio.
    """

    __jit_unused_properties__ = ("keep_ratio",)

    def __init__(
        self,
        hidden_size: int,
        keep_ratio: float,
        *,
        after_block: int = 0,
        tau: float = 1.0,
        sampling: str = "soft_topk",
        learn_score: bool = True,
        norm_left: bool = True,
    ) -> None:
        super().__init__()
        check_sampling(sampling, tau)
        self.keep_ratio = keep_ratio
        self.after_block = after_block
        self.tau = float(tau)
        self.sampling = sampling
        self.tie_tolerance = TIE_TOLERANCE
        self.score = ScorePredictor(hidden_size) if learn_score and sampling != "random" else None
        self.norm_left = nn.LayerNorm(hidden_size, eps=1e-6) if norm_left else nn.Identity()

    @property
    def keep_ratio(self) -> float:
        """Share of the tokens kept."""
        return float(self._keep_ratio)

    @keep_ratio.setter
    def keep_ratio(self, keep_ratio: float) -> None:
        keep_count(1, keep_ratio)
        # as text, since torch.compile makes a second float a symbol, and all sizes behind it
        self._keep_ratio = repr(float(keep_ratio))

    def forward(
        self,
        tokens: Tensor,
        grid_idx: Tensor,
        policy: Tensor | None = None,
        prior: Tensor | None = None,
        num_prefix: int = 0,
    ) -> PrunedTokens:
        """Split tokens into those kept and those that leave.

        Args:
            tokens: (B, P + N, D), in ascending grid place.
            grid_idx: (B, N), int64, each token's place in the grid.
            policy: (B, N), the tokens' policy from the stage before.
            prior: (B, N), float32, training-free scores, which are added to the learned ones.
            num_prefix: P, leading tokens without a place (CLS, registers), which stay.

        Raises:
            ValueError: if neither a predictor nor chance nor `prior` gives scores.
        """
        pruned = self._prune(tokens[:, num_prefix:], grid_idx, policy, prior)
        if num_prefix == 0:
            return pruned
        kept = torch.cat((tokens[:, :num_prefix], pruned.kept), dim=1)
        return PrunedTokens(kept, pruned.kept_idx, pruned.left, pruned.left_idx, pruned.policy, pruned.left_raw)

    def _prune(self, tokens: Tensor, grid_idx: Tensor, policy: Tensor | None, prior: Tensor | None) -> PrunedTokens:
        """Split tokens that all have a place."""
        keep = keep_count(tokens.shape[1], float(self._keep_ratio))
        if self.score is None and self.sampling != "random":
            if prior is None:
                msg = "learn_score=False leaves no scores to choose by: pass prior, a tensor of shape (B, N)"
                raise ValueError(msg)
            return self._split(tokens, grid_idx, partition_topk(prior, keep, self.tie_tolerance), keep, None)
        if self.score is None:
            chance = torch.rand_like(tokens[:, :, 0]) if self.training else position_hash(grid_idx, self.after_block)
            return self._split(tokens, grid_idx, partition_topk(chance, keep), keep, None)
        score = self.score(tokens)
        if prior is not None:
            score = score + prior
        if not self.training:
            # not the log-probability: its order is the same, but ONNX computes it by way of the probability, where
            # scores of which the network is sure are all 0 or 1 and tie
            return self._split(tokens, grid_idx, partition_topk(score, keep, self.tie_tolerance), keep, None)
        logits = F.logsigmoid(score)
        if self.sampling == "soft_topk":
            logits = logits + gumbel_noise_like(logits)
        order = partition_topk(logits, keep)
        stage_policy = straight_through(logits / self.tau, order, keep)
        if policy is not None:
            before = policy.gather(1, order)
            stage_policy = torch.cat((stage_policy[:, :keep] * before[:, :keep], stage_policy[:, keep:]), dim=1)
        return self._split(tokens, grid_idx, order, keep, stage_policy)

    def _split(self, tokens: Tensor, grid_idx: Tensor, order: Tensor, keep: int, policy: Tensor | None) -> PrunedTokens:
        tokens = take_tokens(tokens, order)
        idx = grid_idx.gather(1, order)
        if policy is not None:
            # both factors are 1 in value
            factor = torch.cat((policy[:, :keep], 1 - policy[:, keep:]), dim=1)
            tokens = tokens * factor.unsqueeze(-1).to(tokens.dtype)
            policy = policy[:, :keep]
        left = tokens[:, keep:]
        return PrunedTokens(tokens[:, :keep], idx[:, :keep], self.norm_left(left), idx[:, keep:], policy, left)

    def extra_repr(self) -> str:
        """Settings for `print(module)`."""
        return f"keep_ratio={self.keep_ratio}, after_block={self.after_block}, sampling={self.sampling!r}"
