from __future__ import annotations

from collections.abc import Callable

import pytest

from scd_plugin.bench.results import EntryResult, Results
from scd_plugin.bench.tables import (
    growth_tables,
    markdown,
    number,
    parts_table,
    problem_list,
    ratio_table,
    speed_table,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (131.8, "132"),
        (2.0, "2.00"),
        (10.04, "10.0"),
        (0.04567, "0.0457"),
        (1234.5, "1234"),
        (999.7, "1000"),
        (0, "0.00"),
        (0.1, "0.100"),
    ],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_speeds(results: Callable[..., Results]) -> None:
    lines = speed_table(results()).splitlines()
    assert lines[0] == (
        "| Network | Parameters, M | GMACs a window | Inference, windows/s | Training, steps/s "
        "| Inference memory, GB | Training memory, GB |"
    )
    assert lines[2] == "| `scd` | 106 | 132 | 2.00 (1.00 to 2.50) | 0.500 (0.400 to 0.500) | 1.00 | 4.00 |"
    assert lines[4] == "| `unetr` | - | - | - | - | - | - |"
    assert "- `dense`: its dense twin; keeps all tokens, fused attention" in lines


def test_a_batch_is_several_windows(entry: Callable[..., EntryResult], results: Callable[..., Results]) -> None:
    row = speed_table(results(entry(batch=4, macs=4 * 131_800_000_000))).splitlines()[2]
    assert row.startswith("| `scd` | 106 | 132 | 8.00 (4.00 to 10.0) | 0.500 (0.400 to 0.500) |")


def test_ratios_against_the_twin(results: Callable[..., Results]) -> None:
    assert ratio_table(results(), "dense").splitlines()[2:] == [
        "| `scd` | 2.00 x (2.00 to 2.00) | 2.00 x (2.00 to 2.00) | 50 % | 50 % | 50 % |",
        "| `unetr` | - | - | - | - | - |",
    ]


def test_parts(entry: Callable[..., EntryResult], results: Callable[..., Results]) -> None:
    dense = entry("dense", parts={"tokenizer": 0.1, "encoder": 0.9, "other": 0.0})
    assert parts_table(results(entry(), dense)).splitlines() == [
        "| Share of inference time | tokenizer | encoder | before pruning | decoder | other |",
        "| --- | --- | --- | --- | --- | --- |",
        "| `scd` | 5 % | - | 25 % | 60 % | 10 % |",
        "| `dense` | 10 % | 90 % | - | - | 0 % |",
    ]
    assert parts_table(results(entry(parts={}))) == ""


def test_growth(grown: Results) -> None:
    said, exponents, _, parts, _, points = growth_tables(grown)
    assert said == "Exponents: cost grows like (tokens (8 x 8 x 8 voxels)) to the power of"
    assert exponents.splitlines()[0] == "| Network | inference, s | inference memory, GB | GMACs |"
    assert exponents.splitlines()[2] == "| `scd` | 1.00 (R² 1.000) | 2.00 (R² 1.000) | 0.50 (R² 1.000) |"
    assert parts.splitlines()[0] == "| Network | completion | decoder |"
    assert parts.splitlines()[2] == "| `scd` | 1.50 (R² 1.000) | 1.00 (R² 1.000) |"
    assert points.splitlines()[3] == "| `scd` | 4096 | 0.800 | 64.0 | 2.83 |"


def test_growth_without_parts(grown: Results) -> None:
    for entry in grown["entries"]:
        entry["parts"] = {}
    said, *_ = tables = growth_tables(grown)
    assert said.startswith("Exponents: cost grows")
    assert len(tables) == 4


def test_growth_of_two_points_does_not_boast(grown: Results) -> None:
    del grown["entries"][1]
    _, exponents, *_, points = growth_tables(grown)
    assert exponents.splitlines()[2] == (
        "| `scd` | 1.00 (two points alone) | 2.00 (two points alone) | 0.50 (two points alone) |"
    )
    assert len(points.splitlines()) == 4


def test_growth_in_one_amount_alone_has_points_and_no_exponent(
    entry: Callable[..., EntryResult], results: Callable[..., Results]
) -> None:
    grow = {"variable": "crop", "values": ["64x64x128", "64x128x64"]}
    text = markdown(results(entry(crop=[64, 64, 128]), entry(crop=[64, 128, 64]), grow=grow))
    assert "| `scd` | - | - | - | - | - |" in text
    assert text.count("| `scd` | 1024 | 0.500 | 2.00 | 1.00 | 4.00 | 132 |") == 2


def test_growth_of_a_volume(entry: Callable[..., EntryResult], results: Callable[..., Results]) -> None:
    def at(volume: int, windows: int) -> EntryResult:
        modes = {"forward": {"seconds": [0.5 * windows], "steps": 1, "before_bytes": 0, "peak_bytes": volume**3}}
        return entry(macs=10**9, modes=modes, volume=[volume] * 3, windows=windows)

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
    assert "- `dense` at 96 in a volume of 96, batch 1, forward: does not fit" in text


def test_problems_are_listed(results: Callable[..., Results]) -> None:
    assert problem_list(results()) == "- `unetr` at 96, batch 1, forward: does not fit"


def test_everything_is_said_once(results: Callable[..., Results]) -> None:
    text = markdown(results())
    assert text.startswith("## btcv: scd, dense, unetr; crop 96")
    assert (
        "Measured 2026-11-24 on Abacus 7 (AVX2), 2 cores, 23.5 GiB, 2 CPU threads. 3 repeats in turn, "
        "2 warm-up steps. Freed memory went back to the system. scd_plugin 0.1.0, torch 2.14.0."
    ) in text
    assert "```bash\nscd bench scd dense unetr --settings btcv --device cpu --threads 2\n```" in text
    assert [line for line in text.splitlines() if line.startswith("| Against")] == [
        "| Against `dense` | Inference speed | Training speed | Inference memory | Training memory | MACs |"
    ]
    assert text.endswith("- `unetr` at 96, batch 1, forward: does not fit\n")


def test_growth_has_tables_of_its_own(grown: Results) -> None:
    text = markdown(grown, level=3)
    assert text.startswith("### btcv, growing")
    assert "Exponents" in text
    assert "Share of inference time" not in text
