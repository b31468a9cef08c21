"""Results of a run that never was, with numbers that are easy to reckon with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from scd_plugin.bench.contestants import parse_contestant
from scd_plugin.bench.results import EntryResult, ModeResult, Results

GB = 1_000_000_000


@pytest.fixture
def entry() -> Callable[..., EntryResult]:
    """One contestant: half a second for a forward pass and two for a training step unless told otherwise."""

    def make(contestant: str = "scd", *, slower: float = 1, **changes: Any) -> EntryResult:
        forward = ModeResult(
            steps=2,
            before_bytes=GB,
            peak_bytes=int(GB * (1 + slower)),
            seconds=[0.5 * slower, 0.4 * slower, 1.0 * slower],
        )
        train = ModeResult(
            steps=1,
            before_bytes=GB,
            peak_bytes=int(GB * (1 + 4 * slower)),
            seconds=[2.0 * slower, 2.5 * slower, 2.0 * slower],
        )
        made: dict[str, Any] = {
            "crop": [96, 96, 96],
            "batch": 1,
            "keep_ratio": 0.1 if contestant == "scd" else None,
            "parameters": 106_250_000,
            "macs": int(131_800_000_000 * slower),
            "parts": {"tokenizer": 0.05, "before pruning": 0.25, "decoder": 0.6, "other": 0.1},
            "modes": {"forward": forward, "train": train},
        }
        return EntryResult(contestant=parse_contestant(contestant), **{**made, **changes})

    return make


@pytest.fixture
def results(entry: Callable[..., EntryResult]) -> Callable[..., Results]:
    """A run of some entries: by default ours, its dense twin, and one that could not take the crop."""

    def make(*entries: EntryResult, **changes: Any) -> Results:
        failed = entry("unetr", parameters=None, macs=None, parts={}, modes={}, problems={"forward": "does not fit"})
        made: dict[str, Any] = {
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
            "entries": list(entries) or [entry(), entry("dense", slower=2), failed],
        }
        return Results(**{**made, **changes})

    return make


@pytest.fixture
def grown(entry: Callable[..., EntryResult], results: Callable[..., Results]) -> Results:
    """A run in which the crop grew: time with the tokens, memory with their square, operations with their root.

    Completion takes time with the power of 1.5 of the tokens, the decoder with 1.
    """

    def at(crop: int, times: float) -> EntryResult:
        forward = ModeResult(steps=1, before_bytes=GB, peak_bytes=int(GB * (1 + times**2)), seconds=[0.1 * times])
        parts = {"completion": 0.05 * times**0.5, "decoder": 0.5}
        return entry(crop=[crop] * 3, modes={"forward": forward}, macs=int(1e9 * times**0.5), parts=parts)

    entries = [at(64, 1), at(128, 8), at(256, 64)]
    return results(*entries, grow={"variable": "crop", "values": ["64", "128", "256"]})
