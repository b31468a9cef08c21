"""How cost grows with the work: an exponent, fitted where both axes are logarithms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from statistics import median
from typing import NamedTuple

import numpy as np

from scd_plugin.bench.parts import PART_NAMES
from scd_plugin.bench.results import EntryResult, Results

__all__ = ["COSTS", "WORK", "Cost", "Fit", "Series", "fit_power", "growth_series", "part_series"]

Cost = Callable[[EntryResult], float | None]
"""amount of a cost in a result; None where it was not measured"""

TOKEN_VOXELS = 8**3
"""Of the published token size; the U-Nets' crops are counted in the same unit."""

# variable -> what it is called on an axis, and its amount in a result
WORK: dict[str, tuple[str, Callable[[EntryResult], float]]] = {
    "crop": ("tokens (8 x 8 x 8 voxels)", lambda entry: prod(entry["crop"]) / TOKEN_VOXELS),
    "keep": ("keep ratio", lambda entry: entry["keep_ratio"] or 1.0),
    "batch": ("batch", lambda entry: float(entry["batch"])),
    "volume": ("voxels of the volume", lambda entry: float(prod(entry["volume"]))),
}


def _seconds(mode: str) -> Cost:
    return lambda entry: median(entry["modes"][mode]["seconds"]) if mode in entry["modes"] else None


def _memory(mode: str) -> Cost:
    def gigabytes(entry: EntryResult) -> float | None:
        found = entry["modes"].get(mode)
        return (found["peak_bytes"] - found["before_bytes"]) / 1e9 if found else None

    return gigabytes


def _operations(entry: EntryResult) -> float | None:
    """Of a batch, or of all windows of a volume."""
    if entry["macs"] is None:
        return None
    return entry["macs"] / 1e9 * entry.get("windows", entry["batch"]) / entry["batch"]


def _part_seconds(part: str) -> Cost:
    """Of a forward pass; a part's share was measured once, after the turns."""

    def seconds(entry: EntryResult) -> float | None:
        whole = _seconds("forward")(entry)
        return whole * entry["parts"][part] if whole is not None and part in entry["parts"] else None

    return seconds


# by what it is called
COSTS: dict[str, Cost] = {
    "inference, s": _seconds("forward"),
    "training step, s": _seconds("train"),
    "inference memory, GB": _memory("forward"),
    "training memory, GB": _memory("train"),
    "GMACs": _operations,
    "windows": lambda entry: entry.get("windows") if entry["modes"] else None,
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


def growth_series(results: Results) -> list[Series]:
    """Every cost of every contestant of a run that grew, with its fit.

    Raises:
        ValueError: if the run did not grow.
    """
    return _all_series(results, COSTS)


def part_series(results: Results) -> list[Series]:
    """Seconds of every part of a forward pass, so that what grows fastest can be named.

    Raises:
        ValueError: if the run did not grow.
    """
    return _all_series(results, {part: _part_seconds(part) for part in PART_NAMES})


def _all_series(results: Results, costs: Mapping[str, Cost]) -> list[Series]:
    if results["grow"] is None:
        msg = f"growth needs results of scd bench --grow; got those of {results['command']!r}"
        raise ValueError(msg)
    amount = WORK[results["grow"]["variable"]][1]
    contestants = dict.fromkeys(entry["contestant"] for entry in results["entries"])
    return [
        _series(
            [entry for entry in results["entries"] if entry["contestant"] == contestant], contestant, cost, of, amount
        )
        for contestant in contestants
        for cost, of in costs.items()
    ]


def _series(
    entries: list[EntryResult], contestant: str, cost: str, of: Cost, amount: Callable[[EntryResult], float]
) -> Series:
    points = [(amount(entry), value) for entry in entries if (value := of(entry)) is not None]
    work, amounts = [x for x, _ in points], [y for _, y in points]
    # crops of another shape can be as much work; memory below what the process can tell apart is 0
    fits = len(set(work)) > 1 and min(amounts) > 0
    return Series(contestant, cost, work, amounts, fit_power(work, amounts) if fits else None)
