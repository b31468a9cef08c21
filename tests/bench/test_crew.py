from __future__ import annotations

import os
import signal
from contextlib import closing
from dataclasses import replace

import pytest

from scd_plugin.bench.crew import Crew, WorkerError, to_close
from scd_plugin.bench.entries import Entry
from scd_plugin.bench.settings import SETTINGS

TINY = replace(SETTINGS["quick"], warmup=1)
A, B, C = (Entry(contestant, TINY) for contestant in ("scd:size=tiny", "dense:size=tiny", "nnunet"))


@pytest.mark.parametrize(
    ("needed", "closed"),
    [(5, []), (10, []), (11, [C]), (14, [C, B]), (100, [C, B, A])],
    ids=["plenty", "just enough", "one", "two", "all that there are"],
)
def test_who_was_used_last_makes_room(needed: int, closed: list[Entry]) -> None:
    assert to_close({A: 1, B: 2, C: 3}, needed=needed, available=10) == closed


@pytest.mark.slow
def test_answers_of_a_worker_and_its_end() -> None:
    with closing(Crew([A], "train", cuda=False)) as crew:
        ready = crew.prepare(A)
        assert crew.turn(A, 2) > 0
        worker = crew._live[A]
        description = crew.describe(A)
        assert not worker.process.is_alive()
    assert ready.step_seconds > 0
    # weights, gradients and AdamW's two moments, of 4 bytes each
    assert ready.peak_bytes - ready.before_bytes > 16 * description.parameters
    assert description.macs > 0
    assert sum(description.parts.values()) == pytest.approx(1)


@pytest.mark.slow
def test_a_worker_that_is_killed_is_a_reason() -> None:
    with closing(Crew([A], "forward", cuda=False)) as crew:
        crew.prepare(A)
        process = crew._live[A].process
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(
            WorkerError, match=r"ended without an answer, as it is where memory runs out \(exit code -9\)"
        ):
            crew.turn(A, 1)
        assert crew.turn(A, 1) > 0, "and is built again if it is asked for"


@pytest.mark.slow
def test_what_a_network_raises_is_a_reason() -> None:
    entry = Entry("unetr", replace(TINY, crop=(40, 40, 40)))
    with (
        closing(Crew([entry], "forward", cuda=False)) as crew,
        pytest.raises(WorkerError, match="unetr needs a crop of multiples of 16 voxels; got 40x40x40"),
    ):
        crew.prepare(entry)
