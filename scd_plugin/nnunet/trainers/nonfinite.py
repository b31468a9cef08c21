"""A loss or gradient that is not finite must not reach the weights, nor pass in silence."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any

import torch

__all__ = ["MAX_IN_A_ROW", "NonFiniteWatch"]

# One damaged case gives such a step now and then; this many one after the other mean that training is broken.
MAX_IN_A_ROW = 10


class NonFiniteWatch:
    """Counts training steps with a loss, or with gradients, that are not finite."""

    def __init__(self) -> None:
        self.in_a_row = 0
        self._dropped = False

    def before_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Take all gradients away where one is infinite or NaN, as gradient scalers do on CUDA; a pre-hook."""
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        self._dropped = not torch.isfinite(torch.nn.utils.get_total_norm(gradients))
        if self._dropped:
            optimizer.zero_grad()

    def see(self, loss: float, cases: Sequence[str]) -> str | None:
        """Count a training step; return a line for the log if it was skipped.

        Raises:
            RuntimeError: after `MAX_IN_A_ROW` such steps one after the other.
        """
        dropped, self._dropped = self._dropped, False
        if isfinite(loss) and not dropped:
            self.in_a_row = 0
            return None
        what = "gradients" if isfinite(loss) else "loss"
        self.in_a_row += 1
        names = ", ".join(cases)
        if self.in_a_row >= MAX_IN_A_ROW:
            msg = (
                f"{what} not finite in {self.in_a_row} steps in a row, last with {names}: look for NaN or infinite "
                "voxels in these cases, or lower the learning rate; none of these steps reached the weights"
            )
            raise RuntimeError(msg)
        return f"{what} not finite (loss {loss}), step skipped; cases: {names}"
