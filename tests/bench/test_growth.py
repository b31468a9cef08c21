from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from scd_plugin.bench.growth import COSTS, WORK, fit_power, growth_series
from scd_plugin.bench.results import EntryResult, Results


@pytest.mark.parametrize(("exponent", "factor"), [(1.0, 3.0), (2.0, 0.01), (0.0, 5.0), (-0.5, 1.0)])
def test_powers_are_found(exponent: float, factor: float) -> None:
    work = [1.0, 3.0, 10.0, 40.0]
    fit = fit_power(work, [factor * x**exponent for x in work])
    assert fit.exponent == pytest.approx(exponent, abs=1e-9)
    assert fit.factor == pytest.approx(factor)
    assert fit.r_squared == pytest.approx(1)


def test_a_cost_that_is_no_power_fits_badly() -> None:
    fit = fit_power([1, 2, 4, 8], [1, 8, 1, 8])
    assert fit.r_squared == pytest.approx(0.2)
    assert fit.exponent == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("work", "cost"),
    [([1], [1]), ([2, 2], [1, 3]), ([1, 2], [1, 0]), ([0, 2], [1, 1]), ([1, 2], [1, 2, 3])],
    ids=["one point", "one amount", "no cost", "no work", "lengths"],
)
def test_what_cannot_be_fitted(work: Sequence[float], cost: Sequence[float]) -> None:
    with pytest.raises(ValueError, match="a fit needs at least two different amounts of work and one cost for each"):
        fit_power(work, cost)


def test_series_of_a_run(grown: Results) -> None:
    series = {each.cost: each for each in growth_series(grown)}
    assert list(series) == list(COSTS)
    assert series["inference, s"].work == [512, 4096, 32768]
    assert [round(series[cost].fit.exponent, 3) for cost in ("inference, s", "inference memory, GB", "GMACs")] == [  # type: ignore[union-attr]
        1,
        2,
        0.5,
    ]
    assert series["training step, s"].amounts == []
    assert series["training step, s"].fit is None


def test_a_run_that_did_not_grow_has_no_series(results: Callable[..., Results]) -> None:
    with pytest.raises(ValueError, match="growth needs results of scd bench --grow; got those of 'scd bench scd"):
        growth_series(results())


def test_amounts_of_work(entry: Callable[..., EntryResult]) -> None:
    result = entry(crop=[96, 96, 48], batch=4, keep_ratio=0.25)
    assert [WORK[variable][1](result) for variable in ("crop", "keep", "batch")] == [864, 0.25, 4]
