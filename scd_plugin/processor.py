"""What this machine's processor can do."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import torch

__all__ = ["bfloat16_instructions", "slow_bfloat16_note", "usable_cores"]

# the faster first
_FLAGS = {"AMX": "amx_bf16", "AVX512-BF16": "avx512_bf16"}
_CPUINFO = Path("/proc/cpuinfo")


def bfloat16_instructions() -> str | None:
    """The instructions with which PyTorch computes faster in bfloat16 than in float32: "AMX" or "AVX512-BF16".

    None on other processors, all of ARM's among them, which nobody has measured here.
    """
    has = _flags()
    return next((name for name, flag in _FLAGS.items() if flag in has), None)


def slow_bfloat16_note() -> str | None:
    """A sentence for processors without instructions for bfloat16; None on others."""
    if bfloat16_instructions() is not None:
        return None
    return (
        "bfloat16 will be slow on this processor, which has neither AMX nor AVX512-BF16; results are as on others, and "
        "float32 is faster here"
    )


def usable_cores() -> int:
    """Cores that this process may run on; the two threads of a core count once."""
    logical = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # not every system tells
    return min(logical, psutil.cpu_count(logical=False) or logical)


def _flags() -> set[str]:
    """The processor's flags as Linux names them; empty where they are not known."""
    # PyTorch 2.6, the oldest that is taken, does not have it
    capabilities = getattr(torch.cpu, "get_capabilities", None)
    if capabilities is not None:
        return {name for name, there in capabilities().items() if there is True}
    try:
        lines = _CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), set())
