"""A loss or gradient that is not finite must not reach the weights, nor pass in silence."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any

import torch

__all__ = ["MAX_IN_A_ROW", "NonFiniteWatch", "drop_non_finite_gradients"]

# One damaged case gives such a step now and then; this many one after the other mean that training is broken.
MAX_IN_A_ROW = 10


def drop_non_finite_gradients(optimizer: torch.optim.Optimizer) -> bool:
    """Take all gradients away where one is infinite or NaN, so that the step changes nothing.

    Gradient scalers do the same on CUDA.

    Returns:
        Whether they were taken away.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    if parameters and not torch.isfinite(torch.nn.utils.get_total_norm([p.grad for p in parameters])):
        for parameter in parameters:
            parameter.grad = None
        return True
    return False


class NonFiniteWatch:
    """Counts training steps with a loss, or with gradients, that are not finite."""

    def __init__(self) -> None:
        self.in_a_row = 0
        self._dropped = False

    def before_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Drop gradients that are not finite; a pre-hook of the optimizer's step."""
        self._dropped = drop_non_finite_gradients(optimizer)

    def see(self, loss: float, cases: Sequence[str]) -> str | None:
        """Count a training step.

        Args:
            loss: the step's loss.
            cases: names of the cases in its batch.

        Returns:
            A line for the log if the step was skipped.

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
