from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

from scd_plugin import freed_memory
from scd_plugin.freed_memory import can_keep_freed_memory, freed_memory_kept, keep_freed_memory

GLIBC = sys.platform.startswith("linux") and hasattr(ctypes.CDLL(None), "gnu_get_libc_version")
needs_glibc = pytest.mark.skipif(not GLIBC, reason="needs Linux with glibc")
# 64 MiB are 16384 pages; glibc needs some rounds until it finds what it kept, since it looks for aligned memory
PROGRAM = """
import resource
from pathlib import Path
import torch
from scd_plugin.freed_memory import freed_memory_kept, keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16 * 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def again():
    return min(faults() for _ in range(20))

def held():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 2**20

{}
"""


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("SCD_KEEP", "MALLOC_")) or name == "GLIBC_TUNABLES":
            monkeypatch.delenv(name)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """What the allocator is told, which it is not."""
    told: list[tuple[int, int]] = []

    class Library:
        def mallopt(self, parameter: int, value: int) -> int:
            told.append((parameter, value))
            return 1

        def malloc_trim(self, pad: int) -> int:
            told.append((0, pad))
            return 1

    monkeypatch.setattr(freed_memory, "_glibc", Library)
    return told


def numbers(program: str) -> list[int]:
    """Numbers that a process of its own prints."""
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(program)], capture_output=True, text=True, check=True, timeout=120
    )
    return [int(line) for line in run.stdout.split()]


@needs_glibc
def test_what_was_freed_is_there_again() -> None:
    first, again = numbers("keep_freed_memory(); print(faults()); print(again())")
    assert first > 16000
    assert again < 100


@needs_glibc
@pytest.mark.parametrize("program", ["", "keep_freed_memory('cuda')"], ids=["not asked for", "network on a gpu"])
def test_otherwise_it_comes_page_by_page(program: str) -> None:
    first, again = numbers(f"{program}\nprint(faults()); print(again())")
    assert first > 16000
    assert again > 16000


@needs_glibc
def test_for_a_while() -> None:
    program = "with freed_memory_kept() as kept:\n    print(again()); print(held())\nprint(held()); print(int(kept))"
    faults, inside, after, kept = numbers(program)
    assert faults < 100
    # the tensor's 64 MiB, and as often as glibc did not find them again
    assert inside - after >= 60
    assert kept == 1


def test_what_the_allocator_is_told(calls: list[tuple[int, int]]) -> None:
    assert keep_freed_memory("cpu")
    assert calls == [(-4, 0), (-1, -1)]


def test_everything_is_given_back_after_an_error(calls: list[tuple[int, int]]) -> None:
    with pytest.raises(KeyError, match="a case"), freed_memory_kept():
        raise KeyError("a case")
    assert calls[2:] == [(-4, 65536), (-3, 32 * 2**20), (-1, 64 * 2**20), (0, 0)]


def test_nothing_is_given_back_that_was_not_kept(calls: list[tuple[int, int]]) -> None:
    with freed_memory_kept("cuda") as kept:
        assert not kept
    assert calls == []


@pytest.mark.parametrize(
    ("name", "value", "keeps"),
    [
        ("SCD_KEEP_FREED_MEMORY", "1", True),
        ("SCD_KEEP_FREED_MEMORY", "0", False),
        ("MALLOC_TRIM_THRESHOLD_", "1000000", False),
        ("GLIBC_TUNABLES", "glibc.malloc.mmap_max=7", False),
        # a number of arenas says nothing of freed memory
        ("MALLOC_ARENA_MAX", "2", True),
    ],
)
def test_switch_and_settings_of_the_user(
    name: str, value: str, keeps: bool, calls: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert can_keep_freed_memory() == keeps
    assert keep_freed_memory() == keeps
    assert bool(calls) == keeps


def test_other_values_of_the_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCD_KEEP_FREED_MEMORY", "no")
    with pytest.raises(ValueError, match=r"SCD_KEEP_FREED_MEMORY must be 1, .* or 0, .*; got 'no'"):
        keep_freed_memory()


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_other_systems(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert not can_keep_freed_memory()
    assert not keep_freed_memory()


def test_another_c_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    monkeypatch.setattr(sys, "platform", "linux")
    assert not can_keep_freed_memory()
