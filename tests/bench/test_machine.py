from __future__ import annotations

from types import SimpleNamespace

import pytest

from scd_plugin.bench.machine import machine, versions


def test_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scd_plugin.processor.bfloat16_instructions", lambda: "AVX512-BF16")
    found = machine("cpu")
    assert found["bfloat16"] == "AVX512-BF16"
    assert found["memory_gb"] > 0
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
