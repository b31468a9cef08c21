"""A progress bar inside each nnU-Net epoch, where the terminal is one."""

from __future__ import annotations

from tqdm import tqdm

__all__ = ["EpochProgress"]


class EpochProgress:
    """Bar over one epoch's training and validation steps; silent when stderr is not a terminal."""

    def __init__(self, *, enabled: bool) -> None:
        # with None tqdm looks whether stderr is a terminal
        self._disable = None if enabled else True
        self._bar = tqdm(disable=True)

    def start(self, label: str, steps: int) -> None:
        """Begin a bar of `steps` steps; a bar still open is closed."""
        self.close()
        self._bar = tqdm(total=steps, desc=label, leave=False, dynamic_ncols=True, disable=self._disable)

    def step(self, *, loss: float) -> None:
        """Advance by one step, with its loss beside the bar."""
        self._bar.set_postfix(loss=f"{loss:.3f}")
        self._bar.update()

    def close(self) -> None:
        """Remove the bar."""
        self._bar.close()
