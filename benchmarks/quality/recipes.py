"""What the contestants are trained with: optimizer, learning rate and its schedule."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch

POWER = 0.9


class Recipe(NamedTuple):
    """An optimizer and how it is driven."""

    optimizer: Callable[..., torch.optim.Optimizer]
    rate: float
    warm_up: float
    """share of the steps over which the learning rate rises"""
    clip: float
    """largest norm of the gradient"""

    def make(self, parameters: Any) -> torch.optim.Optimizer:
        """Build the optimizer."""
        return self.optimizer(parameters, lr=self.rate)

    def learning_rate(self, step: int, steps: int) -> float:
        """Rise in a line over the first steps, then fall as a polynomial."""
        warm_up = round(self.warm_up * steps)
        if step < warm_up:
            return self.rate * (step + 1) / warm_up
        return self.rate * (1 - (step - warm_up) / (steps - warm_up)) ** POWER


TRANSFORMER = Recipe(partial(torch.optim.AdamW, weight_decay=0.05), rate=1e-3, warm_up=0.05, clip=1.0)
NNUNET = Recipe(
    partial(torch.optim.SGD, momentum=0.99, nesterov=True, weight_decay=3e-5), rate=1e-2, warm_up=0.0, clip=12.0
)
"""nnU-Net's own."""

RECIPES = {"nnunet": NNUNET}
"""Of contestants that are not trained as transformers are."""
