"""What a planner says of the keep ratios that it counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from scd_plugin.nnunet.planning.counted_labels import View
from scd_plugin.nnunet.planning.keep_ratios import BOUNDS, share_held, tokens_after

__all__ = ["keep_report"]


def keep_report(
    name: str, view: View, shares: np.ndarray, ratios: Sequence[float], operations: Mapping[str, float]
) -> str:
    """A few lines for a log.

    Args:
        name: of the configuration.
        view: its crop and token.
        shares: (cases, crops), of the tokens that hold more than one class, 0 to 1.
        ratios: keep ratio of each stage.
        operations: multiply-accumulates of networks by what they are.
    """
    after = np.divide(tokens_after(view.num_tokens, ratios), view.num_tokens)
    held = np.mean(shares <= after[-1])
    limits = [f"{bound} is the {word} allowed" for bound, word in zip(BOUNDS, ("least", "most")) if bound in ratios]
    stages = ", ".join(f"{100 * share:.1f}" for share in after)
    return "\n".join(
        [
            f"{name}: keep_ratio {', '.join(map(str, ratios))}{''.join(f' ({limit})' for limit in limits)}",
            f"  tokens with more than one class, in {shares.size} crops of {_size(view.crop)} from {len(shares)} "
            f"cases, tokens of {_size(view.token)}: median {100 * np.median(shares):.1f} %, in 99 % of the crops at "
            f"most {100 * share_held(shares):.1f} %",
            f"  tokens that stay after each stage: {stages} %, mean {100 * after.mean():.1f} %; the last stage has a "
            f"place for all of them in {100 * held:.1f} % of the crops",
            f"  GMACs: {', '.join(f'{count / 1e9:.1f} {what}' for what, count in operations.items())}",
        ]
    )


def _size(edges: Sequence[int]) -> str:
    return " x ".join(map(str, edges))
