"""The machine and the versions that a number comes from, nothing that names a person or a place; and memory held."""

from __future__ import annotations

import os
import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch

from scd_plugin import __version__
from scd_plugin.freed_memory import can_keep_freed_memory, malloc_settings
from scd_plugin.processor import bfloat16_instructions

__all__ = ["held_bytes", "machine", "peak_bytes", "versions"]

PACKAGES = ("torch", "monai", "nnunetv2", "dynamic-network-architectures", "timm", "numpy")


def machine(device: str) -> dict[str, Any]:
    """Processor, cores and memory; with a GPU that one, too."""
    gpu = torch.cuda.get_device_properties(0) if device == "cuda" else None
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _found(r"^model name\s*:\s*(.+)$", "/proc/cpuinfo") or platform.processor() or "unknown",
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "bfloat16": bfloat16_instructions(),
        "cores": psutil.cpu_count(logical=False) or os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "can_keep_memory": can_keep_freed_memory(),
        "malloc": malloc_settings(),
        "gpu": gpu and gpu.name,
        "gpu_memory_gb": gpu and round(gpu.total_memory / 2**30, 1),
    }


def versions() -> dict[str, str | None]:
    """Of Python, CUDA, scd_plugin and the libraries that contestants come from; None for what is not there."""
    libraries = {package: _installed(package) for package in PACKAGES}
    return {"scd_plugin": __version__, "python": platform.python_version(), **libraries, "cuda": torch.version.cuda}


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def held_bytes(*, cuda: bool) -> int:
    """Bytes held now: of tensors on the GPU, or of the whole process on a CPU, without libraries and files read."""
    if cuda:
        return torch.cuda.memory_allocated()
    memory = psutil.Process().memory_info()
    # what is read of files is loaded page by page, whenever a kernel is first used; only Linux tells
    return int(memory.rss - getattr(memory, "shared", 0))


def peak_bytes(*, cuda: bool) -> int:
    """The most bytes held since the process began; where the system does not tell, those held now."""
    if cuda:
        return torch.cuda.max_memory_allocated()
    memory = psutil.Process().memory_info()
    most = getattr(memory, "peak_wset", memory.rss)
    # on Linux getrusage would count what the process held before it became this program
    if found := _found(r"^VmHWM:\s+(\d+) kB$", "/proc/self/status"):
        most = 1024 * int(found)
    elif sys.platform == "darwin":
        import resource

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(most - getattr(memory, "shared", 0))


def _found(pattern: str, file: str) -> str | None:
    """The first match in a file of the system, which only Linux has."""
    text = Path(file).read_text(encoding="utf-8", errors="replace") if Path(file).exists() else ""
    match = re.search(pattern, text, flags=re.MULTILINE)
    return match[1].strip() if match else None
