"""Choose a fixed number of tokens, differentiably.

Source: Zhou et al., Token Sparsification for Faster Medical Image Segmentation, IPMI 2023, arXiv 2303.06522,
section on Soft-topK Token Pruning (STP). Gumbel top-k: Kool et al., arXiv 1903.06059.
"""

from __future__ import annotations

import torch
from torch import Tensor

from scd_plugin.ops.convolution import is_tracing

__all__ = ["gumbel_noise_like", "keep_count", "partition_topk", "position_hash", "straight_through"]


def keep_count(num_tokens: int, keep_ratio: float) -> int:
    """Number of tokens kept out of `num_tokens`: `int(num_tokens * keep_ratio)`, but never less than one.

    Raises:
        ValueError: if `keep_ratio`, the share kept, is outside (0, 1].
    """
    if not 0.0 < keep_ratio <= 1.0:
        msg = f"keep_ratio must be in (0, 1], the share of tokens kept at a stage; got {keep_ratio}"
        raise ValueError(msg)
    return max(1, int(num_tokens * keep_ratio))


def gumbel_noise_like(scores: Tensor) -> Tensor:
    """Draw Gumbel(0, 1) noise with the shape, dtype and device of `scores`.

    An exponential draw can be exactly 0, whose logarithm would make the noise infinite and the softmax NaN; hence the
    clamp to float32's smallest normal number, drawn in float32 because half precision would round it to 0.
    """
    # a literal: TorchScript knows neither torch.finfo nor constants of a module
    exponential = torch.empty_like(scores, dtype=torch.float32).exponential_().clamp_min(1.1754943508222875e-38)
    return -exponential.log().to(scores.dtype)


def partition_topk(scores: Tensor, keep: int, tolerance: float = 0.0) -> Tensor:
    """Order token indices so that the `keep` best-scored come first, each part in ascending position.

    Equal scores are decided by position, the earlier token first, on every device and in every runtime: flat image
    background makes ties, and `torch.topk` alone breaks them in its own way on each of them. Only a top-k for the
    threshold, comparisons and running sums are used: no sort, no boolean-mask indexing, no data-dependent shape. A GPU
    waits for each of these small operators to be started, so they are as few as they can be.

    Args:
        scores: (B, N), float; compared in float32; NaN counts as the worst score.
        keep: K, between 1 and N.
        tolerance: scores this close to the K-th best, relative to the largest magnitude among the K best, count as
            equal to it. Equal tokens get scores that differ in their last digits, and differently in each runtime.

    Returns:
        Indices (B, N), int64; the first `keep` of them are kept, the others left out.

    Raises:
        ValueError: if `keep` is not in [1, N].
    """
    num_tokens = scores.shape[1]
    if not 1 <= keep <= num_tokens:
        msg = f"keep must be in [1, {num_tokens}], the number of tokens; got {keep}"
        raise ValueError(msg)
    # a literal, see above: the lowest float32
    scores = torch.nan_to_num(scores.float(), nan=-3.4028234663852886e38)
    # the best come sorted
    best = torch.topk(scores, keep, dim=1)[0]
    low = high = best[:, -1:]
    if tolerance > 0:
        largest = torch.linalg.vector_norm(best, ord=float("inf"), dim=1, keepdim=True)
        low, high = low.sub(largest, alpha=tolerance), high.add(largest, alpha=tolerance)
    above, at_least = scores > high, scores >= low
    # counted as integers: ONNX adds up no booleans
    num_above, num_at_least = torch.stack((above, at_least)).long().cumsum(dim=2).unbind(0)
    kept = above | (at_least & (num_at_least - num_above <= keep - num_above[:, -1:]))

    # each token's rank in its own part, from 1, is a running count; positions written to their ranks are the order
    count = kept.long().cumsum(dim=1)
    numbers = _count_up(keep + 1 + num_tokens, scores)
    rank = torch.where(kept, count, numbers[keep + 1 :] - count)
    order = scores.new_empty((scores.shape[0], num_tokens + 1), dtype=torch.long)
    return order.scatter_(1, rank, numbers[:num_tokens].expand_as(rank))[:, 1:]


def _count_up(end: int, like: Tensor) -> Tensor:
    """`torch.arange`; a trace would write that one's device into the graph, which is then of no use on another."""
    if is_tracing():
        return like.new_ones(end, dtype=torch.long).cumsum(dim=0) - 1
    return torch.arange(end, device=like.device)


def straight_through(logits: Tensor, order: Tensor, keep: int) -> Tensor:
    """Policy of every token, in the given order: 1 where kept and 0 where not, with the gradient of a softmax.

    With s = softmax(logits) the policy is `hard - stop_gradient(s) + s`: its value is the hard decision, its gradient
    that of s. Multiply kept tokens by it and pruned tokens by one minus it.

    Logits (B, N), float32, are (score + noise) / tau; `order` (B, N) comes from `partition_topk`. Returns (B, N),
    float32, first the `keep` kept tokens' policy, then the others'.
    """
    soft = logits.softmax(dim=1).gather(1, order)
    hard = torch.cat((torch.ones_like(soft[:, :keep]), torch.zeros_like(soft[:, keep:])), dim=1)
    return hard - soft.detach() + soft


def position_hash(position: Tensor, salt: int) -> Tensor:
    """Pseudo-random float32 in [0, 1) of each non-negative int64: the same on every device, every call, for a `salt`.

    Random pruning (a control of the paper) needs a choice that has nothing to do with the image, yet inference must
    not depend on the random state. Another salt gives another, unrelated choice. Mixing constants from the 32-bit
    finalizer of MurmurHash3 (public domain).
    """
    mask = 0xFFFFFFFF
    bits = (position + 1 + salt * 0x9E3779B9) & mask
    bits = (_xor(bits, bits >> 16) * 0x85EBCA6B) & mask
    bits = (_xor(bits, bits >> 13) * 0xC2B2AE35) & mask
    bits = _xor(bits, bits >> 16)
    # 24 bits are what a float32 holds exactly
    return (bits >> 8).to(torch.float32) / float(1 << 24)


def _xor(a: Tensor, b: Tensor) -> Tensor:
    """`a ^ b` of non-negative integers, without the operator: PyTorch's older ONNX exporter refuses it."""
    return a + b - 2 * (a & b)
