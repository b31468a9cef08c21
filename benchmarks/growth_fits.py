"""How cost grows with the work: an exponent, fitted where both axes are logarithms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from statistics import median
from typing import NamedTuple

import numpy as np

from scd_plugin.bench.parts import PART_NAMES
from scd_plugin.bench.results import EntryResult, Results

__all__ = ["COSTS", "WORK", "Cost", "Fit", "Series", "Work", "fit_power", "growth_series", "part_series", "what_grows"]

Cost = Callable[[EntryResult], "float | None"]
"""amount of a cost in a result; None where it was not measured"""

TOKEN_VOXELS = 8**3
"""Of the published token size; the U-Nets' crops are counted in the same unit."""


class Work(NamedTuple):
    """What grows."""

    called: str
    """on an axis"""
    amount: Callable[[EntryResult], float]


WORK = {
    "crop": Work("tokens (8 x 8 x 8 voxels)", lambda entry: prod(entry.crop) / TOKEN_VOXELS),
    "keep": Work("keep ratio", lambda entry: entry.keep_ratio if isinstance(entry.keep_ratio, float) else 1),
    "batch": Work("batch", lambda entry: float(entry.batch)),
    "volume": Work("voxels of the volume", lambda entry: float(prod(entry.volume or entry.crop))),
}


def _seconds(mode: str) -> Cost:
    return lambda entry: median(entry.modes[mode].seconds) if mode in entry.modes else None


def _memory(mode: str) -> Cost:
    return lambda entry: entry.modes[mode].memory / 1e9 if mode in entry.modes else None


def _operations(entry: EntryResult) -> float | None:
    """Of a batch, or of all windows of a volume."""
    return None if entry.macs is None else entry.macs / 1e9 * (entry.windows or entry.batch) / entry.batch


def _part_seconds(part: str) -> Cost:
    """Of a forward pass; a part's share was measured once, after the turns."""

    def seconds(entry: EntryResult) -> float | None:
        whole = _seconds("forward")(entry)
        return whole * entry.parts[part] if whole is not None and part in entry.parts else None

    return seconds


# by what it is called
COSTS: dict[str, Cost] = {
    "inference, s": _seconds("forward"),
    "training step, s": _seconds("train"),
    "inference memory, GB": _memory("forward"),
    "training memory, GB": _memory("train"),
    "GMACs": _operations,
    "windows": lambda entry: entry.windows if entry.modes else None,
}


class Fit(NamedTuple):
    """cost = factor * work ** exponent."""

    exponent: float
    factor: float
    r_squared: float | None
    """share of the variation of log(cost) that the fit explains; None for two amounts of work, which any line fits"""


class Series(NamedTuple):
    """One cost of one contestant."""

    contestant: str
    cost: str
    work: list[float]
    amounts: list[float]
    fit: Fit | None
    """None for fewer than two different amounts of work"""


def fit_power(work: Sequence[float], cost: Sequence[float]) -> Fit:
    """Least squares on the logarithms.

    Args:
        work: at least two different amounts, all more than 0.
        cost: one for each, all more than 0.

    Raises:
        ValueError: if they are none of this.
    """
    if len(work) != len(cost) or len(set(work)) < 2 or min(*work, *cost) <= 0:
        msg = (
            f"a fit needs at least two different amounts of work and one cost for each, all more than 0; "
            f"got {list(work)} and {list(cost)}"
        )
        raise ValueError(msg)
    x, y = np.log(np.asarray(work)), np.log(np.asarray(cost))
    exponent, offset = np.polyfit(x, y, 1)
    variation = float(((y - y.mean()) ** 2).sum())
    left = float(((y - exponent * x - offset) ** 2).sum())
    r_squared = 1 - left / variation if variation > 0 else 1.0
    return Fit(float(exponent), float(np.exp(offset)), r_squared if len(set(work)) > 2 else None)


def what_grows(results: Results) -> str:
    """The variable of a run that grew.

    Raises:
        ValueError: if the run did not grow.
    """
    if results.grow is None:
        msg = f"growth needs results of benchmarks/growth.py; got those of {results.command!r}"
        raise ValueError(msg)
    return str(results.grow["variable"])


def growth_series(results: Results) -> list[Series]:
    """Every cost of every contestant of a run that grew, with its fit."""
    return _all_series(results, COSTS)


def part_series(results: Results) -> list[Series]:
    """Seconds of every part of a forward pass, so that what grows fastest can be named."""
    return _all_series(results, {part: _part_seconds(part) for part in PART_NAMES})


def _all_series(results: Results, costs: Mapping[str, Cost]) -> list[Series]:
    work = WORK[what_grows(results)]
    entries: dict[str, list[EntryResult]] = {}
    for entry in results.entries:
        entries.setdefault(entry.contestant.label, []).append(entry)
    return [_series(label, cost, work, of, theirs) for label, theirs in entries.items() for cost, of in costs.items()]


def _series(contestant: str, cost: str, work: Work, of: Cost, entries: Sequence[EntryResult]) -> Series:
    points = [(work.amount(entry), value) for entry in entries if (value := of(entry)) is not None]
    amounts, costs = [x for x, _ in points], [y for _, y in points]
    # crops of another shape can be as much work; memory below what the process can tell apart is 0
    fits = len(set(amounts)) > 1 and min(costs) > 0
    return Series(contestant, cost, amounts, costs, fit_power(amounts, costs) if fits else None)
