"""Which cases come first, and which stand apart."""

from __future__ import annotations

import numpy as np
import pytest

from scd_plugin.report.cases import CaseResult, ClassResult
from scd_plugin.report.ranking import modified_z, outliers, worst_first
from scd_plugin.report.scores import Scores


def case(name: str, ml: float, dice: float | None = None) -> CaseResult:
    one = ClassResult("liver", round(1000 * ml), None, ml, None, Scores(dice, dice, None))
    return CaseResult(name, [one], has_truth=dice is not None)


def test_distance_from_the_median() -> None:
    # median 3, median absolute deviation 1
    assert modified_z([1, 2, 3, 4, 100])[-1] == pytest.approx(0.6745 * 97)
    # more than half are equal: mean absolute deviation 0.4
    assert modified_z([1, 1, 1, 1, 3])[-1] == pytest.approx(2 / (1.253314 * 0.4))
    assert np.array_equal(modified_z([2, 2, 2]), [0, 0, 0])
    assert np.array_equal(modified_z([2]), [0])


def test_sizes_and_dice_that_stand_apart() -> None:
    cases = [case(f"c{i}", 100 + i, 0.9 + 0.001 * i) for i in range(8)]
    assert outliers(cases) == {}
    cases += [case("huge", 900, 0.904), case("none", 0, 0.903), case("low", 103, 0.2), case("good", 104, 0.999)]
    assert outliers(cases) == {"huge": ["liver: large"], "none": ["liver: small"], "low": ["liver: low Dice"]}


def test_flat_images_are_compared_with_each_other() -> None:
    flat = [CaseResult(f"f{i}", [ClassResult("liver", 40 + i)]) for i in range(8)]
    solid = [case(f"c{i}", 1 + 0.01 * i) for i in range(8)]
    assert outliers([*flat, *solid]) == {}
    wide = CaseResult("wide", [ClassResult("liver", 4000)])
    assert outliers([*flat, wide, *solid]) == {"wide": ["liver: large"]}


def test_few_cases_have_no_outliers() -> None:
    assert outliers([case(f"c{i}", 100) for i in range(6)] + [case("huge", 900)]) == {}


def test_order() -> None:
    broken = CaseResult("broken", error="it can't be read")
    scored = [case("good", 1, 0.9), case("bad", 1, 0.1), case("missed", 1, 0.0)]
    unscored = [case("usual", 1.0), case("also usual", 1.1), case("odd", 50.0)]
    names = [one.name for one in worst_first([*unscored, *scored, broken])]
    assert names[:4] == ["broken", "missed", "bad", "good"]
    assert names[4] == "odd"
    assert worst_first([]) == []
    assert [one.name for one in worst_first([case("alone", 1)])] == ["alone"]
