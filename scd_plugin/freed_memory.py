"""Memory that one layer frees and the next needs: kept in the process, instead of given to the system in between.

glibc takes every block above 32 MiB from the system and gives it back when it is freed. One feature map of 16 channels
has 54 MiB at 96 x 96 x 96 voxels, and the system hands out zeroed pages of 4 KiB, one by one: a tenth to a third of a
pass on two cores. Kept memory leaves gaps that nothing fits into, so that a process comes to hold more of it, within
about ten steps; docs/results.md has the numbers of both. GPUs have PyTorch's own cache.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from scd_plugin.switches import switched_on

__all__ = [
    "SWITCH",
    "can_keep_freed_memory",
    "freed_memory_kept",
    "give_freed_memory_back",
    "keep_freed_memory",
    "malloc_settings",
]

SWITCH = "SCD_KEEP_FREED_MEMORY"
"""Environment variable; 0 leaves the allocator as it is, where memory is short."""

# of malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
_NEVER = -1
# where glibc's own adaptive thresholds end up, and its default number of blocks straight from the system
_BLOCK, _TRIM, _BLOCKS = 32 * 2**20, 64 * 2**20, 65536


def can_keep_freed_memory() -> bool:
    """Whether this process may and can.

    Not where `SCD_KEEP_FREED_MEMORY` is 0, on other systems than Linux with glibc, and where the allocator has settings
    of the user's, as in `MALLOC_TRIM_THRESHOLD_` or `GLIBC_TUNABLES`.

    Raises:
        ValueError: if the variable is neither 0 nor 1.
    """
    wanted = switched_on(SWITCH, on="keep freed memory on a CPU", off="leave the allocator alone")
    return wanted and not malloc_settings() and _glibc() is not None


def malloc_settings() -> dict[str, str]:
    """Variables of the environment by which the user has told glibc what to do with freed memory."""
    return {
        name: value
        for name, value in sorted(os.environ.items())
        if name == "GLIBC_TUNABLES" or (name.startswith("MALLOC_") and name.endswith("_"))
    }


def keep_freed_memory(device: torch.device | str = "cpu") -> bool:
    """Keep from now on what this process frees, if the network's device is a CPU and `can_keep_freed_memory`.

    Children that are forked later do so too. Other devices than a CPU have their own allocators.

    Returns:
        Whether it does.

    Raises:
        ValueError: see `can_keep_freed_memory`.
    """
    if not can_keep_freed_memory() or torch.device(device).type != "cpu" or (library := _glibc()) is None:
        return False
    # nothing from the system but what the heap grows by, and nothing back
    return bool(library.mallopt(_M_MMAP_MAX, 0)) and bool(library.mallopt(_M_TRIM_THRESHOLD, _NEVER))


@contextmanager
def freed_memory_kept(device: torch.device | str = "cpu") -> Iterator[bool]:
    """Keep freed memory for a while, as `keep_freed_memory` does; at the end what is free goes back to the system.

    Yields whether it is kept; raises as `can_keep_freed_memory` does.
    """
    kept = keep_freed_memory(device)
    try:
        yield kept
    finally:
        if kept and (library := _glibc()) is not None:
            library.mallopt(_M_MMAP_MAX, _BLOCKS)
            library.mallopt(_M_MMAP_THRESHOLD, _BLOCK)
            library.mallopt(_M_TRIM_THRESHOLD, _TRIM)
            give_freed_memory_back()


def give_freed_memory_back() -> None:
    """Give what is free now to the system, once; what is freed later is kept or not as before."""
    if (library := _glibc()) is not None:
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    # other C libraries of Linux do not tell a version of glibc
    needed = ("gnu_get_libc_version", "mallopt", "malloc_trim")
    return library if all(hasattr(library, name) for name in needed) else None
