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
    title,
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
    said, exponents, _, points = growth_tables(grown)
    assert said == "Exponents: cost grows like (tokens (8 x 8 x 8 voxels)) to the power of"
    assert exponents.splitlines()[0] == "| Network | inference, s | inference memory, GB | GMACs |"
    assert exponents.splitlines()[2] == "| `scd` | 1.00 (R² 1.000) | 2.00 (R² 1.000) | 0.50 (R² 1.000) |"
    assert points.splitlines()[3] == "| `scd` | 4096 | 0.800 | 64.0 | 2.83 |"


def test_problems_are_listed(results: Callable[..., Results]) -> None:
    assert problem_list(results()) == "- `unetr` at 96, batch 1, forward: does not fit"


def test_titles(results: Callable[..., Results], grown: Results) -> None:
    assert title(results()) == ("btcv: crop 96, batch 1, keep 0.1, 1 to 14 channels, float32, eager, 2 CPU threads")
    assert title(grown).startswith("btcv, growing tokens (8 x 8 x 8 voxels): batch 1, keep 0.1, 1 to 14")
    on_gpu = results(machine={**results()["machine"], "gpu": "Big GPU", "gpu_memory_gb": 80.0})
    assert title(on_gpu).endswith("eager, Big GPU")


def test_everything_is_said_once(results: Callable[..., Results]) -> None:
    text = markdown(results())
    assert text.startswith("## btcv: crop 96")
    assert (
        "Measured 2026-11-24 on Abacus 7 (AVX2), 2 cores, 23.5 GiB, 2 CPU threads. 3 repeats in turn, "
        "2 warm-up steps. scd_plugin 0.1.0, torch 2.14.0."
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
