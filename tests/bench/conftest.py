"""Results of a run that never was, with numbers that are easy to reckon with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch

from scd_plugin.bench.results import EntryResult, Results

GB = 1_000_000_000


@pytest.fixture
def entry() -> Callable[..., EntryResult]:
    """One contestant: half a second for a forward pass and two for a training step unless told otherwise."""

    def make(contestant: str = "scd", *, slower: float = 1, **changes: Any) -> EntryResult:
        made: EntryResult = {
            "contestant": contestant,
            "crop": [96, 96, 96],
            "batch": 1,
            "keep_ratio": 0.1 if contestant == "scd" else None,
            "parameters": 106_250_000,
            "macs": int(131_800_000_000 * slower),
            "parts": {"tokenizer": 0.05, "before pruning": 0.25, "decoder": 0.6, "other": 0.1},
            "modes": {
                "forward": {
                    "seconds": [0.5 * slower, 0.4 * slower, 1.0 * slower],
                    "steps": 2,
                    "before_bytes": GB,
                    "peak_bytes": int(GB * (1 + slower)),
                },
                "train": {
                    "seconds": [2.0 * slower, 2.5 * slower, 2.0 * slower],
                    "steps": 1,
                    "before_bytes": GB,
                    "peak_bytes": int(GB * (1 + 4 * slower)),
                },
            },
            "problems": {},
        }
        return {**made, **changes}  # type: ignore[typeddict-item]

    return make


@pytest.fixture
def results(entry: Callable[..., EntryResult]) -> Callable[..., Results]:
    """A run of some entries: by default ours, its dense twin, and one that could not take the crop."""

    def make(*entries: EntryResult, **changes: Any) -> Results:
        failed = entry("unetr", parameters=None, macs=None, parts={}, modes={}, problems={"forward": "does not fit"})
        made: Results = {
            "schema": 1,
            "created": "2026-11-24",
            "command": "scd bench scd dense unetr --settings btcv --device cpu --threads 2",
            "machine": {
                "system": "Linux x86_64",
                "processor": "Abacus 7",
                "instructions": "AVX2",
                "cores": 2,
                "memory_gb": 23.5,
                "gpu": None,
                "gpu_memory_gb": None,
            },
            "versions": {"scd_plugin": "0.1.0", "torch": "2.14.0", "nnunetv2": None},
            "settings": {
                "name": "btcv",
                "in_channels": 1,
                "out_channels": 14,
                "crop": [96, 96, 96],
                "keep_ratio": 0.1,
                "batch": 1,
                "dtype": "float32",
                "compiled": False,
                "threads": 2,
                "repeats": 3,
                "warmup": 2,
                "overlap": 0.5,
            },
            "grow": None,
            "entries": list(entries) or [entry(), entry("dense", slower=2), failed],
        }
        return {**made, **changes}  # type: ignore[typeddict-item]

    return make


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


@pytest.fixture
def grown(entry: Callable[..., EntryResult], results: Callable[..., Results]) -> Results:
    """A run in which the crop grew: time with the tokens, memory with their square, operations with their root.

    Completion takes time with the power of 1.5 of the tokens, the decoder with 1.
    """

    def at(crop: int, times: float) -> EntryResult:
        modes = {
            "forward": {
                "seconds": [0.1 * times],
                "steps": 1,
                "before_bytes": GB,
                "peak_bytes": int(GB * (1 + times**2)),
            }
        }
        parts = {"completion": 0.05 * times**0.5, "decoder": 0.5}
        return entry(crop=[crop] * 3, modes=modes, macs=int(1e9 * times**0.5), parts=parts)

    entries = [at(64, 1), at(128, 8), at(256, 64)]
    return results(*entries, grow={"variable": "crop", "values": ["64", "128", "256"]})
