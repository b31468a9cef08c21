from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from growth_fits import COSTS, WORK, fit_power, growth_series, part_series
from growth_report import markdown, title

from scd_plugin.bench.results import EntryResult, ModeResult, Results


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
    for entry in grown.entries:
        entry.modes["train"] = entry.modes.pop("forward")
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
    assert WORK["volume"].amount(result) == 96 * 144 * 192
    assert COSTS["GMACs"](result) == 30
    assert COSTS["windows"](result) == 6
    assert COSTS["GMACs"](entry(macs=10_000_000_000, batch=2)) == 10
    assert COSTS["windows"](entry()) is None
    assert COSTS["windows"](entry(modes={}, volume=[96] * 3, windows=1)) is None
    assert COSTS["GMACs"](entry(macs=None, volume=[96] * 3, windows=1)) is None


def test_a_run_that_did_not_grow_has_no_series(results: Callable[..., Results]) -> None:
    with pytest.raises(ValueError, match=r"growth needs results of benchmarks/growth\.py; got those of 'scd bench scd"):
        growth_series(results())


def test_amounts_of_work(entry: Callable[..., EntryResult]) -> None:
    result = entry(crop=[96, 96, 48], batch=4, keep_ratio=0.25)
    assert [WORK[variable].amount(result) for variable in ("crop", "keep", "batch")] == [864, 0.25, 4]


class TestReport:
    def test_title_leaves_out_what_grows(self, grown: Results) -> None:
        assert title(grown) == (
            "btcv, growing tokens (8 x 8 x 8 voxels): scd; batch 1, keep 0.1, 1 to 14 channels, float32, eager, "
            "2 CPU threads"
        )

    def test_exponents_and_points(self, grown: Results) -> None:
        text = markdown(grown)
        assert text.startswith("## btcv, growing tokens")
        assert (
            "Exponents: cost grows like (tokens (8 x 8 x 8 voxels)) to the power of\n\n| Network | inference, s |"
            in text
        )
        assert "| `scd` | 1.00 (R² 1.000) | 2.00 (R² 1.000) | 0.50 (R² 1.000) |" in text
        assert "| Network | completion | decoder |" in text
        assert "| `scd` | 1.50 (R² 1.000) | 1.00 (R² 1.000) |" in text
        assert "| `scd` | 4096 | 0.800 | 64.0 | 2.83 |" in text
        assert "Share of inference time" not in text

    def test_without_parts(self, grown: Results) -> None:
        for entry in grown.entries:
            entry.parts = {}
        assert "Exponents: cost grows" in markdown(grown)
        assert "each part of a forward pass" not in markdown(grown)

    def test_two_points_do_not_boast(self, grown: Results) -> None:
        del grown.entries[1]
        text = markdown(grown)
        assert "| `scd` | 1.00 (two points alone) | 2.00 (two points alone) | 0.50 (two points alone) |" in text
        assert "R²" not in text

    def test_one_amount_alone_has_points_and_no_exponent(
        self, entry: Callable[..., EntryResult], results: Callable[..., Results]
    ) -> None:
        grow = {"variable": "crop", "values": ["64x64x128", "64x128x64"]}
        text = markdown(results(entry(crop=[64, 64, 128]), entry(crop=[64, 128, 64]), grow=grow))
        assert "| `scd` | - | - | - | - | - |" in text
        assert text.count("| `scd` | 1024 | 0.500 | 2.00 | 1.00 | 4.00 | 132 |") == 2

    def test_volume(self, entry: Callable[..., EntryResult], results: Callable[..., Results]) -> None:
        def at(volume: int, windows: int) -> EntryResult:
            forward = ModeResult(steps=1, before_bytes=0, peak_bytes=volume**3, seconds=[0.5 * windows])
            return entry(macs=10**9, modes={"forward": forward}, volume=[volume] * 3, windows=windows)

        entries = [at(96, 1), at(192, 27), at(288, 125)]
        failed = entry("dense", modes={}, macs=None, volume=[96] * 3, windows=1, problems={"forward": "does not fit"})
        text = markdown(results(*entries, failed, grow={"variable": "volume", "values": ["96", "192", "288"]}))
        assert text.startswith(
            "## btcv, growing voxels of the volume: scd, dense; crop 96, windows overlap by 0.5, batch 1"
        )
        assert "| Network | inference, s | inference memory, GB | GMACs | windows |" in text
        assert "| `scd` | 1.48 (R² 0.997) | 1.00 (R² 1.000) | 1.48 (R² 0.997) | 1.48 (R² 0.997) |" in text
        assert "| `scd` | 7077888 | 13.5 | 0.00708 | 27.0 | 27.0 |" in text
        assert "| `dense` | 884736 | - | - | - | - |" in text
        assert "- `dense` at 96, batch 1, forward: does not fit" in text
