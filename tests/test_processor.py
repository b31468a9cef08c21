from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest
import torch

from scd_plugin import processor
from scd_plugin.processor import bfloat16_instructions, usable_cores

AMX = {"amx_tile": True, "amx_bf16": True, "avx512_bf16": True}
ZEN4 = {"amx_tile": False, "amx_bf16": False, "avx512_bf16": True, "l2_cache_size": 1048576, "cpu_name": "AMD EPYC"}
# tiles of integers alone
INTEGERS = {"amx_tile": True, "amx_int8": True, "amx_bf16": False, "avx512_f": True}
ARM = {"architecture": "aarch64", "neon": True, "bf16": True, "sve_bf16": True, "sve_max_length": 256}
CPUINFO = "processor\t: 0\nmodel name\t: a processor\nflags\t\t: fpu avx512f {}\n\nprocessor\t: 1\n"


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [(AMX, "AMX"), (ZEN4, "AVX512-BF16"), (INTEGERS, None), (ARM, None), ({}, None)],
    ids=["amx", "zen 4", "integers", "arm", "unknown"],
)
def test_as_pytorch_says(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, object], expected: str | None
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert bfloat16_instructions() == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CPUINFO.format("avx512_bf16 amx_bf16"), "AMX"),
        (CPUINFO.format("avx512_bf16 vaes"), "AVX512-BF16"),
        # a name that only starts alike
        (CPUINFO.format("avx512_bf160"), None),
        (CPUINFO.format("avx2"), None),
        ("processor\t: 0\nFeatures\t: fp asimd bf16 svebf16\n", None),
        ("", None),
    ],
    ids=["amx", "avx512", "alike", "neither", "arm", "empty"],
)
def test_as_linux_says_for_an_older_pytorch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, expected: str | None
) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(processor, "_CPUINFO", tmp_path / "cpuinfo")
    assert bfloat16_instructions() == expected


def test_older_pytorch_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    monkeypatch.setattr(processor, "_CPUINFO", tmp_path / "absent")
    assert bfloat16_instructions() is None


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="needs Linux")
def test_both_agree_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    by_pytorch = bfloat16_instructions()
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert bfloat16_instructions() == by_pytorch


@pytest.mark.parametrize(
    ("allowed", "physical", "expected"),
    [({0, 1, 2, 3}, 2, 2), ({0, 1}, 8, 2), ({0, 1, 2}, None, 3)],
    ids=["two threads a core", "some of the cores", "not known"],
)
def test_usable_cores(monkeypatch: pytest.MonkeyPatch, allowed: set[int], physical: int | None, expected: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: allowed, raising=False)
    monkeypatch.setattr(psutil, "cpu_count", lambda *, logical: physical if not logical else 99)
    assert usable_cores() == expected


def test_usable_cores_where_affinity_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(psutil, "cpu_count", lambda *, logical: 4 if not logical else 99)
    assert usable_cores() == 4
