"""Which cases are worst, and which stand apart from the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from scd_plugin.report.cases import CaseResult
from scd_plugin.report.volume import Array

__all__ = ["modified_z", "outliers", "worst_first"]

# Iglewicz and Hoaglin, How to Detect and Handle Outliers, 1993: their factors, and from where on a value stands apart
_OF_MEDIAN, _OF_MEAN, APART = 0.6745, 1.253314, 3.5
# what is compared, flat images with each other alone
_DICE, _ML, _VOXELS = "Dice", "size in ml", "size in voxels"
FEWEST = 8
"""Cases without which none stands apart."""


def modified_z(values: Sequence[float]) -> Array:
    """Return how far each value is from the median, in a robust measure of spread; 0 where there is no spread.

    Source: Iglewicz and Hoaglin 1993, with their mean absolute deviation where more than half of the values are equal.
    """
    away = np.asarray(values, dtype=float) - np.median(values)
    if middle := float(np.median(np.abs(away))):
        return np.asarray(_OF_MEDIAN * away / middle)
    spread = _OF_MEAN * float(np.mean(np.abs(away)))
    return away / spread if spread else away


def outliers(cases: Sequence[CaseResult]) -> dict[str, list[str]]:
    """Say of each case, by its name, in what it stands apart: a class's size, or a low Dice."""
    apart: dict[str, list[str]] = {}
    for (name, what), found in _distances(cases).items():
        for case, distance in found.items():
            if distance < -APART or (what != _DICE and distance > APART):
                words = "low Dice" if what == _DICE else "small" if distance < 0 else "large"
                apart.setdefault(case, []).append(f"{name}: {words}")
    return apart


def worst_first(cases: Sequence[CaseResult]) -> list[CaseResult]:
    """Sort cases: unreadable ones, then by mean Dice, then those without one, the most unusual sizes first."""
    unusual: dict[str, float] = {}
    for (_, what), found in _distances(cases, fewest=2).items():
        if what != _DICE:
            for case, distance in found.items():
                unusual[case] = max(unusual.get(case, 0.0), abs(distance))

    def order(case: CaseResult) -> tuple[bool, bool, float, float]:
        dice = case.mean("dice")
        return not case.error, dice is None, dice or 0.0, -unusual.get(case.name, 0.0)

    return sorted(cases, key=order)


def _distances(cases: Sequence[CaseResult], *, fewest: int = FEWEST) -> Mapping[tuple[str, str], dict[str, float]]:
    """Modified z of each case, for each class and what was measured of it; sizes as edges, so that 0 has its place."""
    values: dict[tuple[str, str], dict[str, float]] = {}
    for case in cases:
        for one in case.classes:
            what, size = (_VOXELS, one.voxels) if one.ml is None else (_ML, one.ml)
            values.setdefault((one.name, what), {})[case.name] = float(np.cbrt(size))
            if one.scores.dice is not None:
                values.setdefault((one.name, _DICE), {})[case.name] = one.scores.dice
    return {
        key: dict(zip(found, modified_z(list(found.values())).tolist()))
        for key, found in values.items()
        if len(found) >= fewest
    }
