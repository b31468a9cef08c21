"""The results of a run as JSON: raw repeats, with the machine, versions and command that they come from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple, TypedDict, cast

import numpy as np

__all__ = [
    "SCHEMA",
    "EntryResult",
    "Grow",
    "ModeResult",
    "Results",
    "Spread",
    "paired_ratio",
    "read_results",
    "spread",
    "write_results",
]

SCHEMA = 1
"""Changes with the meaning of the fields; older files are then refused."""


class _OfCases(TypedDict, total=False):
    """What only a whole case has."""

    stages: list[dict[str, float]]
    """seconds of each of `settings.CASE_STAGES`, for every turn"""


class ModeResult(_OfCases):
    """One contestant in one mode."""

    seconds: list[float]
    """per step, one number a turn"""
    steps: int
    """steps in a turn"""
    before_bytes: int
    peak_bytes: int


class _OfVolumes(TypedDict, total=False):
    """What only a volume segmented in windows has."""

    volume: list[int]
    """voxels per axis"""
    windows: int
    """in which it is covered"""


class EntryResult(_OfVolumes):
    """One contestant at one setting."""

    contestant: str
    crop: list[int]
    batch: int
    keep_ratio: float | None
    """None for a contestant that does not prune"""
    parameters: int | None
    macs: int | None
    """of a forward pass of the batch"""
    parts: dict[str, float]
    modes: dict[str, ModeResult]
    problems: dict[str, str]
    """mode, or "description" -> why there is no result"""


class Grow(TypedDict):
    """What the work grew in."""

    variable: str
    values: list[str]


class Results(TypedDict):
    """A whole run."""

    schema: int
    created: str
    command: str
    machine: dict[str, Any]
    versions: dict[str, str | None]
    settings: dict[str, Any]
    grow: Grow | None
    entries: list[EntryResult]


class Spread(NamedTuple):
    """Of some repeats."""

    low: float
    lower_quartile: float
    median: float
    upper_quartile: float
    high: float


def spread(values: list[float]) -> Spread:
    """Median, quartiles and extremes."""
    return Spread(*np.quantile(values, [0, 0.25, 0.5, 0.75, 1]).tolist())


def paired_ratio(reference: list[float], ours: list[float]) -> Spread:
    """How many times faster than a reference, repeat by repeat: what slows the machine down cancels out."""
    return spread([theirs / mine for theirs, mine in zip(reference, ours)])


def write_results(results: Results, path: Path) -> None:
    """Results to a file."""
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def read_results(path: Path) -> Results:
    """Results from a file.

    Raises:
        ValueError: if it is none, or one of another schema.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        msg = f"{path} cannot be read as JSON: {error}"
        raise ValueError(msg) from None
    missing = Results.__required_keys__ - set(found) if isinstance(found, dict) else {"everything"}
    if missing or found["schema"] != SCHEMA:
        schema = "none" if missing else found["schema"]
        msg = f"{path} must be a result of scd bench, schema {SCHEMA}; got schema {schema}: measure it again"
        raise ValueError(msg)
    return cast("Results", found)
