"""How cost grows with the work: an exponent, fitted where both axes are logarithms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from statistics import median
from typing import NamedTuple

import numpy as np

from scd_plugin.bench.results import EntryResult, Results

__all__ = ["COSTS", "WORK", "Fit", "Series", "fit_power", "growth_series"]

TOKEN_VOXELS = 8**3
"""Of the published token size; the U-Nets' crops are counted in the same unit."""

# variable -> what it is called on an axis, and its amount in a result
WORK: dict[str, tuple[str, Callable[[EntryResult], float]]] = {
    "crop": ("tokens (8 x 8 x 8 voxels)", lambda entry: prod(entry["crop"]) / TOKEN_VOXELS),
    "keep": ("keep ratio", lambda entry: entry["keep_ratio"] or 1.0),
    "batch": ("batch", lambda entry: float(entry["batch"])),
    "volume": ("voxels of the volume", lambda entry: float(prod(entry["volume"]))),
}


def _seconds(mode: str) -> Callable[[EntryResult], float | None]:
    return lambda entry: median(entry["modes"][mode]["seconds"]) if mode in entry["modes"] else None


def _memory(mode: str) -> Callable[[EntryResult], float | None]:
    def gigabytes(entry: EntryResult) -> float | None:
        found = entry["modes"].get(mode)
        return (found["peak_bytes"] - found["before_bytes"]) / 1e9 if found else None

    return gigabytes


def _operations(entry: EntryResult) -> float | None:
    """Of a batch, or of all windows of a volume."""
    if entry["macs"] is None:
        return None
    return entry["macs"] / 1e9 * entry.get("windows", entry["batch"]) / entry["batch"]


# what a cost is called, and its amount in a result; None where it was not measured
COSTS: dict[str, Callable[[EntryResult], float | None]] = {
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
    if results["grow"] is None:
        msg = f"growth needs results of scd bench --grow; got those of {results['command']!r}"
        raise ValueError(msg)
    amount = WORK[results["grow"]["variable"]][1]
    contestants = dict.fromkeys(entry["contestant"] for entry in results["entries"])
    return [
        _series([entry for entry in results["entries"] if entry["contestant"] == contestant], contestant, cost, amount)
        for contestant in contestants
        for cost in COSTS
    ]


def _series(entries: list[EntryResult], contestant: str, cost: str, amount: Callable[[EntryResult], float]) -> Series:
    points = [(amount(entry), value) for entry in entries if (value := COSTS[cost](entry)) is not None]
    work, amounts = [x for x, _ in points], [y for _, y in points]
    # crops of another shape can be as much work; memory below what the process can tell apart is 0
    fits = len(set(work)) > 1 and min(amounts) > 0
    return Series(contestant, cost, work, amounts, fit_power(work, amounts) if fits else None)
