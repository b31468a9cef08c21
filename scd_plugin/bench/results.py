"""The results of a run and their JSON: raw repeats, with the machine, versions and command that they come from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scd_plugin.bench.contestants import Contestant

__all__ = ["SCHEMA", "EntryResult", "ModeResult", "Results"]

SCHEMA = 1
"""Changes with the meaning of the fields; older files are then refused."""


@dataclass(kw_only=True)
class ModeResult:
    """One contestant in one mode."""

    steps: int
    """in a turn"""
    before_bytes: int
    """held before the network was built"""
    peak_bytes: int
    """the most held"""
    seconds: list[float] = field(default_factory=list)
    """per step, one number a turn"""
    stages: list[dict[str, float]] = field(default_factory=list)
    """seconds of each turn's stages, where its steps tell them"""

    @property
    def memory(self) -> int:
        """Bytes that the network and its steps took."""
        return self.peak_bytes - self.before_bytes


@dataclass(kw_only=True)
class EntryResult:
    """One contestant at one setting."""

    contestant: Contestant
    crop: list[int]
    batch: int
    volume: list[int] | None = None
    windows: int | None = None
    """in which a volume of so many voxels was covered, where that was measured"""
    keep_ratio: Sequence[float] | float | None
    """None for a network of another library"""
    parameters: int | None = None
    macs: int | None = None
    """of a forward pass of the batch"""
    parts: dict[str, float] = field(default_factory=dict)
    """share of the time of a forward pass"""
    modes: dict[str, ModeResult] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    """mode, or "description" -> why there is no result"""


@dataclass(kw_only=True)
class Results:
    """A whole run."""

    schema: int = SCHEMA
    created: str
    command: str
    machine: dict[str, Any]
    versions: dict[str, str | None]
    settings: dict[str, Any]
    grow: dict[str, Any] | None = None
    """variable and values, where the work grew"""
    entries: list[EntryResult]

    def write(self, path: Path) -> None:
        """Write them to a file."""
        path.write_text(json.dumps(vars(self), indent=1, default=_plain) + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    return value.label if isinstance(value, Contestant) else vars(value)
