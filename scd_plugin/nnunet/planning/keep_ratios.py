"""From the tokens that matter to keep ratios, and what is said of them. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from math import ceil

import numpy as np

from scd_plugin.ops.topk import keep_count

__all__ = ["keep_ratios", "keep_report", "share_held", "tokens_after"]

MOST = 0.75
"""Of every ratio: at three stages a fifth of the multiply-accumulates is still saved, beyond it hardly anything is."""


def share_held(shares: Sequence[float] | np.ndarray) -> float:
    """The smallest share of tokens that is enough in 99 % of the crops; shares are 0 to 1, one for each crop."""
    return float(np.quantile(np.asarray(shares, dtype=float), 0.99, method="inverted_cdf"))


def tokens_after(num_tokens: int, ratios: Sequence[float]) -> list[int]:
    """Number of tokens that stay after each stage."""
    return list(accumulate(ratios, keep_count, initial=num_tokens))[1:]


def keep_ratios(share: float, num_tokens: int, preset: Sequence[float]) -> list[float]:
    """The smallest keep ratios, in hundredths, whose last stage keeps a share of all tokens.

    They are the preset's, all raised to one power: where those are equal, `share ** (1 / stages)` each; where the first
    stage is gentler than the others, it stays so. None is below the preset's, since room for what matters alone was not
    enough where that was tried (docs/studies/choice-of-tokens.md, SCD-Primus), nor above `MOST`.

    Args:
        share: of the tokens, 0 to 1.
        num_tokens: of a crop.
        preset: the preset's ratio at each stage, at most `MOST`.
    """
    power = np.log(preset) / np.log(preset).sum()
    needed = ceil(share * num_tokens - 1e-6)
    while True:
        # the small number, since 100 * 0.14 is a little more than 14
        exact = np.ceil(100 * share**power - 1e-9) / 100
        ratios = [float(ratio) for ratio in exact.clip(preset, MOST)]
        if share >= 1 or tokens_after(num_tokens, ratios)[-1] >= needed:
            return ratios
        # rounding down at each stage lost some of them
        share *= 1.001


def keep_report(
    shares: np.ndarray,
    num_tokens: int,
    ratios: Sequence[float],
    preset: Sequence[float],
    operations: Mapping[str, float],
) -> str:
    """Say for a log what was counted, from the shares (cases, crops), and the multiply-accumulates that follow."""
    after = np.divide(tokens_after(num_tokens, ratios), num_tokens)
    limits = " (the preset's)" if list(ratios) == list(preset) else f" ({MOST} is the most allowed)" * (MOST in ratios)
    return (
        f"keep_ratio {', '.join(map(str, ratios))}{limits}\n"
        f"  tokens with foreground, in {shares.size} crops from {len(shares)} cases: median "
        f"{100 * np.median(shares):.1f} %, in 99 % of the crops at most {100 * share_held(shares):.1f} %\n"
        f"  tokens that stay after each stage: {', '.join(f'{100 * share:.1f}' for share in after)} %, mean "
        f"{100 * after.mean():.1f} %; room for all of them in {100 * np.mean(shares <= after[-1]):.1f} % of the crops\n"
        f"  GMACs: {', '.join(f'{count / 1e9:.1f} {what}' for what, count in operations.items())}"
    )
