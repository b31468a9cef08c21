"""Which tokens leave where: those that hold boundaries, foreground and background, beside what chance would take."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from scd_plugin.ops.token_labels import TokenLabels

__all__ = ["KINDS", "NAMES", "TokenAudit"]

KINDS = ("mixed", "foreground", "background")


class TokenAudit:
    """Counts tokens of labelled crops by what they hold and by the stage at which they left.

    Args:
        num_stages: pruning stages, at least one.
    """

    def __init__(self, num_stages: int) -> None:
        self.num_stages = num_stages
        # by kind and stage; the last row is of all tokens, the last column of those that stay
        self.tokens = torch.zeros(len(KINDS) + 1, num_stages + 1, dtype=torch.float64)
        self.foreground = torch.zeros(num_stages + 1, dtype=torch.float64)

    def add(self, exits: Tensor, labels: TokenLabels) -> None:
        """Count a batch.

        Args:
            exits: (B, L), int64, the stage at which each token leaves; `num_stages` for those that stay.
            labels: of the same crops.
        """
        known = labels.labelled
        kinds = (labels.mixed, labels.foreground, known & ~labels.foreground, known)
        for number, kind in enumerate(kinds):
            self.tokens[number] += _by_stage(exits[kind], self.num_stages)
        self.foreground += _by_stage(exits, self.num_stages, labels.inside)

    def merge(self, others: Sequence[TokenAudit]) -> TokenAudit:
        """This and others together, as of several processes."""
        merged = TokenAudit(self.num_stages)
        for one in (self, *others):
            merged.tokens += one.tokens
            merged.foreground += one.foreground
        return merged

    def shares(self, kind: str) -> list[float]:
        """Of the tokens of a kind, the share that leaves at each stage, and that stays; NaN where there is none.

        Args:
            kind: one of `KINDS`, or `"chance"` for all tokens alike.
        """
        counts = self.tokens[(*KINDS, "chance").index(kind)]
        return [float(share) for share in counts / counts.sum()]

    def foreground_voxels_left_first(self) -> float:
        """Share of the foreground's voxels that lie in tokens that left at the first stage; NaN without foreground."""
        return float(self.foreground[0] / self.foreground.sum())

    def in_one_line(self) -> str:
        """For a log: who left, stage by stage."""
        stages = ", ".join(str(number + 1) for number in range(self.num_stages))
        parts = [f"{NAMES[kind]} {_percent(self.shares(kind)[:-1])}" for kind in (*KINDS, "chance")]
        voxels = _percent([self.foreground_voxels_left_first()])
        return f"tokens that left at stage {stages}: {'; '.join(parts)}; foreground voxels in stage 1's {voxels}"

    def row(self) -> dict[str, float]:
        """For a table: every share by a name of its own."""
        named = {
            f"{kind}_{f'left_at_{number + 1}' if number < self.num_stages else 'kept'}": share
            for kind in (*KINDS, "chance")
            for number, share in enumerate(self.shares(kind))
        }
        return {**named, "foreground_voxels_left_at_1": self.foreground_voxels_left_first()}


NAMES = {
    "mixed": "more than one class",
    "foreground": "any foreground",
    "background": "background",
    "chance": "chance",
}


def _percent(shares: Sequence[float]) -> str:
    return ", ".join("-" if share != share else f"{100 * share:.0f}" for share in shares) + " %"


def _by_stage(exits: Tensor, num_stages: int, weights: Tensor | None = None) -> Tensor:
    # in float64, which not every device has
    flat = None if weights is None else weights.flatten().cpu().double()
    return torch.bincount(exits.flatten().cpu(), flat, minlength=num_stages + 1).double()
