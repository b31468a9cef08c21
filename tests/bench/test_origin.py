from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from scd_plugin.bench.contestants import CONTESTANTS
from scd_plugin.bench.origin import footer, measured, picture_text, title
from scd_plugin.bench.results import EntryResult, Results


class TestTitle:
    def test_says_who_takes_part(self, results: Callable[..., Results]) -> None:
        assert title(results()) == (
            "btcv: scd, dense, unetr; crop 96, batch 1, keep 0.1, 1 to 14 channels, float32, eager, 2 CPU threads"
        )

    def test_of_growth_leaves_out_what_grows(self, grown: Results) -> None:
        assert title(grown) == (
            "btcv, growing tokens (8 x 8 x 8 voxels): scd; batch 1, keep 0.1, 1 to 14 channels, float32, eager, "
            "2 CPU threads"
        )

    def test_ends_with_the_gpu(self, results: Callable[..., Results]) -> None:
        on_gpu = results(machine={**results()["machine"], "gpu": "Big GPU", "gpu_memory_gb": 80.0})
        assert title(on_gpu).endswith("eager, Big GPU")

    @pytest.mark.parametrize(
        ("contestants", "said"),
        [
            (("scd", "scd:keep_ratio=0.5"), True),
            (("scd:keep_ratio=0.5", "dense"), False),
            (("fast", "early"), False),
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
    run["machine"] |= found
    assert measured(run) == (
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
    run["settings"] |= settings
    run["machine"] |= machine
    assert said in measured(run)


def test_gpu_is_named(results: Callable[..., Results]) -> None:
    run = results()
    run["machine"] |= {"gpu": "Big GPU", "gpu_memory_gb": 80.0}
    assert "23.5 GiB, 2 CPU threads; Big GPU, 80.0 GiB. 3 repeats" in measured(run)
    assert "memory" not in measured(run)


def test_lines_below_a_picture(results: Callable[..., Results]) -> None:
    assert footer(results()) == [
        "scd bench scd dense unetr --settings btcv --device cpu --threads 2",
        "Abacus 7 (AVX2), 2 cores, 23.5 GiB, 2 CPU threads; 2026-11-24; scd_plugin 0.1.0, torch 2.14.0",
    ]


def test_text_of_a_picture(results: Callable[..., Results]) -> None:
    run = results()
    assert picture_text(run) == {"Title": title(run), "Description": run["command"], "Source": measured(run)}
