"""From the tokens that matter to keep ratios. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import ceil

import numpy as np

from scd_plugin.ops.topk import keep_count

__all__ = ["BOUNDS", "HELD", "keep_ratios", "share_held", "tokens_after"]

HELD = 0.99
"""Share of the crops whose tokens that matter all have a place in the last stage."""
BOUNDS = (0.1, 0.75)
"""Of every ratio. 0.1 is the smallest published one (BTCV), and fewer tokens save next to nothing more; with 0.75 at
each stage a fifth of the multiply-accumulates is still saved, beyond it pruning is hardly worth its risk."""


def share_held(shares: Sequence[float] | np.ndarray) -> float:
    """The smallest share of tokens that is enough in 99 % of the crops; shares are 0 to 1, one for each crop."""
    return float(np.quantile(np.asarray(shares, dtype=float), HELD, method="inverted_cdf"))


def tokens_after(num_tokens: int, ratios: Sequence[float]) -> list[int]:
    """Number of tokens that stay after each stage."""
    return list(accumulate(ratios, keep_count, initial=num_tokens))[1:]


def keep_ratios(share: float, num_tokens: int, preset: Sequence[float]) -> list[float]:
    """The smallest keep ratios, in hundredths and within `BOUNDS`, whose last stage keeps a share of all tokens.

    They are the preset's, all raised to one power: where those are equal, `share ** (1 / stages)` each; where the first
    stage is gentler than the others, it stays so.

    Args:
        share: of the tokens, 0 to 1.
        num_tokens: of a crop.
        preset: the preset's ratio at each stage, below 1.
    """
    power = np.log(preset) / np.log(preset).sum()
    needed = ceil(share * num_tokens - 1e-6)
    while True:
        # the small number, since 100 * 0.14 is a little more than 14
        exact = np.ceil(100 * share**power - 1e-9) / 100
        ratios = [float(ratio) for ratio in exact.clip(*BOUNDS)]
        if share >= 1 or tokens_after(num_tokens, ratios)[-1] >= needed:
            return ratios
        # rounding down at each stage lost some of them
        share *= 1.001
