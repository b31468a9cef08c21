"""Results that were made up, and the clock of a GPU that is not there."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import pytest
import torch
from made_results import entry, grown, results

__all__ = ["entry", "fake_events", "grown", "results"]


@pytest.fixture
def fake_events(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Events of a GPU that is not there; its own clock goes on by the seconds that the fixture is called with.

    What an event recorded is known after synchronising, as on a GPU.
    """
    clock = [0.0]

    class Event:
        waiting: ClassVar[list[Event]] = []

        def __init__(self, *, enable_timing: bool) -> None:
            assert enable_timing
            self.at: float | None = None
            self.known = False

        def record(self) -> None:
            self.at = clock[0]
            Event.waiting.append(self)

        def synchronize(self) -> None:
            synchronise()

        def elapsed_time(self, end: Event) -> float:
            assert self.known
            assert end.known
            assert self.at is not None
            assert end.at is not None
            return 1000 * (end.at - self.at)

    def synchronise() -> None:
        for event in Event.waiting:
            event.known = True

    def go_on(seconds: float) -> None:
        clock[0] += seconds

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", synchronise)
    return go_on
