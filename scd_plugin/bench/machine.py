"""The machine and the versions that a number comes from; nothing that names a person or a place."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from scd_plugin import __version__

__all__ = ["machine", "versions"]

PACKAGES = ("torch", "monai", "nnunetv2", "dynamic-network-architectures", "timm", "numpy")


def machine(device: str) -> dict[str, Any]:
    """Processor, cores and memory; with a GPU that one, too."""
    import torch

    from scd_plugin.freed_memory import can_keep_freed_memory, malloc_settings
    from scd_plugin.processor import bfloat16_instructions

    found: dict[str, Any] = {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "bfloat16": bfloat16_instructions(),
        "cores": psutil.cpu_count(logical=False) or os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "can_keep_memory": can_keep_freed_memory(),
        "malloc": malloc_settings(),
        "gpu": None,
        "gpu_memory_gb": None,
    }
    if device == "cuda":
        gpu = torch.cuda.get_device_properties(0)
        found |= {"gpu": gpu.name, "gpu_memory_gb": round(gpu.total_memory / 2**30, 1)}
    return found


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        match = re.search(r"^model name\s*:\s*(.+)$", info.read_text(encoding="utf-8"), flags=re.MULTILINE)
        if match:
            return match[1].strip()
    return platform.processor() or "unknown"


def versions() -> dict[str, str | None]:
    """Of Python, CUDA, scd_plugin and the libraries that contestants come from; None for what is not there."""
    import torch

    libraries = {package: _installed(package) for package in PACKAGES}
    return {
        "scd_plugin": __version__,
        "python": platform.python_version(),
        **libraries,
        "cuda": torch.version.cuda,
    }


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
