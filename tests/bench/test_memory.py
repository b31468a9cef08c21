from __future__ import annotations

import mmap

import pytest

from scd_plugin.bench.memory import _high_water_mark, held_bytes, peak_bytes


def test_high_water_mark_is_read() -> None:
    assert _high_water_mark("Name:\tpython\nVmPeak:\t 9 kB\nVmHWM:\t  2048 kB\nVmRSS:\t 12 kB\n") == 2048 * 1024


def test_where_there_is_none_the_present_counts() -> None:
    assert _high_water_mark("Name:\tpython\n") > 1_000_000


def test_peak_remembers_what_was_given_back() -> None:
    before, size = held_bytes(cuda=False), 40_000_000
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as block:
        for start in range(0, size, 4096):
            block[start] = 1
        assert held_bytes(cuda=False) - before > 30_000_000
    assert held_bytes(cuda=False) - before < 30_000_000
    assert peak_bytes(cuda=False) - before > 30_000_000


def test_memory_of_a_gpu_is_what_pytorch_gave_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.memory_allocated", lambda: 123)
    monkeypatch.setattr("torch.cuda.max_memory_allocated", lambda: 456)
    assert (held_bytes(cuda=True), peak_bytes(cuda=True)) == (123, 456)
