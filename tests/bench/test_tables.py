from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from scd_plugin.bench.contestants import CONTESTANTS
from scd_plugin.bench.results import EntryResult, Results
from scd_plugin.bench.tables import markdown, measured_text, number, ratio_text, title, with_extremes


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


def test_spread_of_repeats() -> None:
    assert with_extremes([5, 1, 2, 4, 3]) == "3.00 (1.00 to 5.00)"
    assert with_extremes([2.5]) == "2.50 (2.50 to 2.50)"


def test_ratio_is_taken_repeat_by_repeat() -> None:
    """A machine that is half as fast in the second repeat changes nothing."""
    assert ratio_text([4.0, 8.0, 4.0], [2.0, 4.0, 2.0]) == "2.00 x (2.00 to 2.00)"


def test_speeds(results: Callable[..., Results]) -> None:
    lines = markdown(results()).splitlines()
    head = (
        "| Network | Parameters, M | GMACs a window | Inference, windows/s | Training, steps/s "
        "| Inference memory, GB | Training memory, GB |"
    )
    first = lines.index(head)
    assert lines[first + 2] == "| `scd` | 106 | 132 | 2.00 (1.00 to 2.50) | 0.500 (0.400 to 0.500) | 1.00 | 4.00 |"
    assert lines[first + 4] == "| `unetr` | - | - | - | - | - | - |"
    assert "- `dense`: its dense twin; keeps all tokens, fused attention" in lines


def test_a_batch_is_several_windows(entry: Callable[..., EntryResult], results: Callable[..., Results]) -> None:
    text = markdown(results(entry(batch=4, macs=4 * 131_800_000_000)))
    assert "| `scd` | 106 | 132 | 8.00 (4.00 to 10.0) | 0.500 (0.400 to 0.500) |" in text
    assert "Against" not in text, "there is no twin"


def test_ratios_against_the_twin(results: Callable[..., Results]) -> None:
    lines = markdown(results()).splitlines()
    head = "| Against `dense` | Inference speed | Training speed | Inference memory | Training memory | MACs |"
    assert lines[lines.index(head) + 2 :][:2] == [
        "| `scd` | 2.00 x (2.00 to 2.00) | 2.00 x (2.00 to 2.00) | 50 % | 50 % | 50 % |",
        "| `unetr` | - | - | - | - | - |",
    ]


def test_parts(entry: Callable[..., EntryResult], results: Callable[..., Results]) -> None:
    dense = entry("dense", parts={"tokenizer": 0.1, "encoder": 0.9, "other": 0.0})
    lines = markdown(results(entry(), dense)).splitlines()
    assert lines[-4:] == [
        "| Share of inference time | tokenizer | encoder | before pruning | decoder | other |",
        "| --- | --- | --- | --- | --- | --- |",
        "| `scd` | 5 % | - | 25 % | 60 % | 10 % |",
        "| `dense` | 10 % | 90 % | - | - | 0 % |",
    ]
    assert "Share of inference" not in markdown(results(entry(parts={})))


class TestTitle:
    def test_says_who_takes_part(self, results: Callable[..., Results]) -> None:
        assert title(results()) == (
            "btcv: scd, dense, unetr; crop 96, batch 1, keep 0.1, 1 to 14 channels, float32, eager, 2 CPU threads"
        )

    def test_ends_with_the_gpu(self, results: Callable[..., Results]) -> None:
        on_gpu = results(machine={**results().machine, "gpu": "Big GPU", "gpu_memory_gb": 80.0})
        assert title(on_gpu).endswith("eager, Big GPU")

    @pytest.mark.parametrize(
        ("contestants", "said"),
        [
            (("scd", "scd:keep_ratio=0.5"), True),
            (("scd:keep_ratio=0.5", "dense"), False),
            (("fast", "scd:size=small"), False),
            (("primus-s", "scd-primus-s"), True),
        ],
        ids=["one of them", "its own", "presets", "primus"],
    )
    def test_says_the_keep_ratio_where_somebody_takes_it(
        self,
        contestants: tuple[str, ...],
        said: bool,
        entry: Callable[..., EntryResult],
        results: Callable[..., Results],
    ) -> None:
        assert ("keep 0.1" in title(results(*map(entry, contestants)))) == said

    def test_names_are_said_once_and_without_arguments(
        self, entry: Callable[..., EntryResult], results: Callable[..., Results]
    ) -> None:
        contestants = ("primus-m", "scd-primus-m:keep_ratio=0.5", "scd-primus-m:keep_ratio=0.25")
        assert title(results(*map(entry, contestants))).startswith("btcv: primus-m, scd-primus-m; crop 96, batch 1, 1 ")

    def test_many_names_are_a_number(self, entry: Callable[..., EntryResult], results: Callable[..., Results]) -> None:
        assert title(results(*map(entry, CONTESTANTS))).startswith(f"btcv: {len(CONTESTANTS)} networks; crop 96")


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({}, "Abacus 7 (AVX2), 2 cores"),
        ({"bfloat16": "AMX"}, "Abacus 7 (AVX2, AMX), 2 cores"),
        ({"bfloat16": None}, "Abacus 7 (AVX2, no bfloat16 instructions), 2 cores"),
    ],
    ids=["older files", "there", "not there"],
)
def test_instructions(found: dict[str, Any], said: str, results: Callable[..., Results]) -> None:
    run = results()
    run.machine |= found
    assert measured_text(run) == (
        f"Measured 2026-11-24 on {said}, 23.5 GiB, 2 CPU threads. 3 repeats in turn, 2 warm-up steps. "
        "Freed memory went back to the system. scd_plugin 0.1.0, torch 2.14.0."
    )


@pytest.mark.parametrize(
    ("settings", "machine", "said"),
    [
        ({}, {}, "Freed memory went back to the system."),
        ({"keep_memory": True}, {"can_keep_memory": True}, "Freed memory stayed in the process."),
        ({"keep_memory": True}, {"can_keep_memory": False}, "Freed memory went back to the system."),
        ({"keep_memory": False}, {"can_keep_memory": True}, "Freed memory went back to the system."),
        ({"keep_memory": True}, {"malloc": {"MALLOC_MMAP_MAX_": "0"}}, "Freed memory as MALLOC_MMAP_MAX_=0 has it."),
    ],
    ids=["older files", "kept", "cannot", "returned", "the user's"],
)
def test_freed_memory(
    settings: dict[str, Any], machine: dict[str, Any], said: str, results: Callable[..., Results]
) -> None:
    run = results()
    run.settings |= settings
    run.machine |= machine
    assert said in measured_text(run)


def test_gpu_is_named(results: Callable[..., Results]) -> None:
    run = results()
    run.machine |= {"gpu": "Big GPU", "gpu_memory_gb": 80.0}
    assert "23.5 GiB, 2 CPU threads; Big GPU, 80.0 GiB. 3 repeats" in measured_text(run)
    assert "memory" not in measured_text(run)


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
