"""A progress bar inside each nnU-Net epoch, where the terminal is one."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

__all__ = ["EpochProgress"]


class EpochProgress:
    """Bar over one epoch's training and validation steps; silent when stderr is not a terminal.

    Args:
        enabled: False in all processes but the first.
    """

    def __init__(self, *, enabled: bool) -> None:
        self.enabled = enabled and sys.stderr.isatty()
        self._bar: tqdm[Any] | None = None

    def start(self, label: str, steps: int) -> None:
        """Begin a bar of `steps` steps; a bar still open is closed."""
        self.close()
        if self.enabled:
            self._bar = tqdm(total=steps, desc=label, leave=False, dynamic_ncols=True)

    def step(self, **values: float) -> None:
        """Advance by one step, with numbers to show beside the bar."""
        if self._bar is not None:
            self._bar.set_postfix({name: f"{value:.3f}" for name, value in values.items()})
            self._bar.update()

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
