from __future__ import annotations

import mmap
from pathlib import Path
from types import SimpleNamespace

import pytest

from scd_plugin.bench.machine import _found, held_bytes, machine, peak_bytes, versions


def test_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scd_plugin.bench.machine.bfloat16_instructions", lambda: "AVX512-BF16")
    found = machine("cpu")
    assert found["bfloat16"] == "AVX512-BF16"
    assert found["memory_gb"] > 0
    assert found["processor"]
    assert (found["gpu"], found["gpu_memory_gb"]) == (None, None)


def test_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    properties = SimpleNamespace(name="Big GPU", total_memory=80 * 2**30)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda number: [properties][number])
    found = machine("cuda")
    assert (found["gpu"], found["gpu_memory_gb"]) == ("Big GPU", 80.0)


def test_a_library_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scd_plugin.bench.machine.PACKAGES", ("torch", "no-such-library"))
    found = versions()
    assert found["torch"]
    assert found["no-such-library"] is None


def test_high_water_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("Name:\tpython\nVmPeak:\t 9 kB\nVmHWM:\t  2048 kB\nVmRSS:\t 12 kB\n")
    assert _found(r"^VmHWM:\s+(\d+) kB$", str(tmp_path / "status")) == "2048"
    assert _found(r"^VmHWM:\s+(\d+) kB$", str(tmp_path / "nowhere")) is None


def test_where_there_is_none_the_present_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scd_plugin.bench.machine._found", lambda *_: None)
    assert peak_bytes(cuda=False) == pytest.approx(held_bytes(cuda=False), abs=10_000_000)


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
