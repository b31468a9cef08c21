from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from scd_plugin.bench.growth import COSTS, WORK, fit_power, growth_series, part_series
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
    ("work", "cost", "exponent"),
    [([1, 2], [1, 4], 2), ([1, 2, 2], [1, 4, 4], 2)],
    ids=["two points", "three points of two amounts"],
)
def test_two_amounts_always_fit(work: Sequence[float], cost: Sequence[float], exponent: float) -> None:
    fit = fit_power(work, cost)
    assert fit.exponent == pytest.approx(exponent)
    assert fit.r_squared is None


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


def test_series_of_parts(grown: Results) -> None:
    series = {each.cost: each for each in part_series(grown) if each.amounts}
    assert list(series) == ["completion", "decoder"]
    assert series["decoder"].amounts == pytest.approx([0.05, 0.4, 3.2])
    assert [each.fit and round(each.fit.exponent, 3) for each in series.values()] == [1.5, 1]


def test_parts_of_a_run_of_training_alone(grown: Results) -> None:
    for entry in grown["entries"]:
        entry["modes"]["train"] = entry["modes"].pop("forward")
    assert not any(each.amounts for each in part_series(grown))


def test_one_amount_of_work_has_no_fit(entry: Callable[..., EntryResult], results: Callable[..., Results]) -> None:
    run = results(
        entry(crop=[64, 64, 128]),
        entry(crop=[64, 128, 64], slower=2),
        grow={"variable": "crop", "values": ["64x64x128", "64x128x64"]},
    )
    series = growth_series(run)[0]
    assert (series.work, series.amounts) == ([1024, 1024], [0.5, 1.0])
    assert {each.fit for each in growth_series(run)} == {None}


def test_cost_of_a_volume_is_that_of_all_windows(entry: Callable[..., EntryResult]) -> None:
    result = entry(macs=10_000_000_000, batch=2, volume=[96, 144, 192], windows=6)
    assert WORK["volume"][1](result) == 96 * 144 * 192
    assert COSTS["GMACs"](result) == 30
    assert COSTS["windows"](result) == 6
    assert COSTS["GMACs"](entry(macs=10_000_000_000, batch=2)) == 10
    assert COSTS["windows"](entry()) is None
    assert COSTS["windows"](entry(modes={}, volume=[96] * 3, windows=1)) is None
    assert COSTS["GMACs"](entry(macs=None, volume=[96] * 3, windows=1)) is None


def test_a_run_that_did_not_grow_has_no_series(results: Callable[..., Results]) -> None:
    with pytest.raises(ValueError, match="growth needs results of scd bench --grow; got those of 'scd bench scd"):
        growth_series(results())


def test_amounts_of_work(entry: Callable[..., EntryResult]) -> None:
    result = entry(crop=[96, 96, 48], batch=4, keep_ratio=0.25)
    assert [WORK[variable][1](result) for variable in ("crop", "keep", "batch")] == [864, 0.25, 4]
