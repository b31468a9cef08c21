"""Progress of a prediction: a bar over cases and one over the windows of the case at hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["PredictionProgress"]


class PredictionProgress:
    """Draw bars on a terminal, stderr where no other is given; elsewhere write nothing but what `say` is told."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, soft_wrap=True)
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        silent = not self.console.is_terminal
        self._bars = Progress(*columns, console=self.console, transient=True, disable=silent)
        self._cases = self._bars.add_task("cases", total=None)
        self._windows = self._bars.add_task("windows", total=None)
        self._folds = 1

    @contextmanager
    def shown(self, num_cases: int, num_folds: int) -> Iterator[None]:
        """Show the bars while cases are predicted; windows are gone through once for each fold."""
        self._folds = num_folds
        self._bars.reset(self._cases, total=num_cases)
        with self._bars:
            yield

    def case(self, name: str) -> None:
        """Say that the network starts on a case."""
        self._bars.reset(self._windows, description=f"windows of {name}")

    def windows(self, number: int) -> None:
        """Say that a pass over the case's windows starts."""
        self._bars.update(self._windows, total=number * self._folds)

    def window(self) -> None:
        """Say that a window is done."""
        self._bars.advance(self._windows)

    def case_done(self) -> None:
        """Say that a case is written, or has failed."""
        self._bars.advance(self._cases)

    def say(self, line: str) -> None:
        """Write a line above the bars."""
        self.console.print(line, markup=False, highlight=False)
