"""Memory of this process: what it holds, and the most that it held. Libraries, files that are read, do not count."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import psutil

__all__ = ["held_bytes", "peak_bytes"]


def held_bytes(*, cuda: bool) -> int:
    """Bytes held now: of tensors on the GPU, or of the whole process on a CPU."""
    if cuda:
        import torch

        return torch.cuda.memory_allocated()
    return int(psutil.Process().memory_info().rss) - _mapped_files()


def peak_bytes(*, cuda: bool) -> int:
    """The most bytes held since the process began."""
    if cuda:
        import torch

        return torch.cuda.max_memory_allocated()
    return _most_resident() - _mapped_files()


def _most_resident() -> int:
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    status = Path("/proc/self/status")
    if status.exists():
        # getrusage would count what the process held before it became this program
        return _high_water_mark(status.read_text(encoding="ascii", errors="replace"))
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _high_water_mark(status: str) -> int:
    match = re.search(r"^VmHWM:\s+(\d+) kB$", status, flags=re.MULTILINE)
    # sandboxes leave it out
    return int(match[1]) * 1024 if match else int(psutil.Process().memory_info().rss)


def _mapped_files() -> int:
    """Only Linux tells; they are loaded page by page, whenever a kernel is first used."""
    return int(getattr(psutil.Process().memory_info(), "shared", 0))
