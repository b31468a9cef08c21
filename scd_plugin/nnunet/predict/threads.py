"""How many threads the network computes with on a CPU."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from nnunetv2.configuration import default_num_processes

from scd_plugin.processor import usable_cores

__all__ = ["idle_cores", "idle_cores_note", "nnunets_threads", "pytorch_threads"]


def nnunets_threads() -> int:
    """Threads of `nnUNetv2_predict -device cpu`: a logical core each, and no more than `nnUNet_def_n_proc`."""
    return min(multiprocessing.cpu_count(), default_num_processes)


def idle_cores() -> int:
    """Count the cores that nnU-Net's number of threads leaves without work."""
    return max(0, usable_cores() - nnunets_threads())


def idle_cores_note() -> str | None:
    """Say that cores are left without work, and how to use them; None where none is."""
    if not (idle := idle_cores()):
        return None
    cores, default = usable_cores(), "" if "nnUNet_def_n_proc" in os.environ else ", its default"
    return (
        f"the network computes on {cores - idle} of {cores} cores, since nnU-Net takes no more threads than "
        f"nnUNet_def_n_proc ({default_num_processes}{default}): --threads {cores} takes all, and its sums may round "
        "differently"
    )


@contextmanager
def pytorch_threads(device: torch.device) -> Iterator[None]:
    """Give PyTorch as many threads as `nnUNetv2_predict` does, so that sums are taken in the same order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if device.type == "cuda" else multiprocessing.cpu_count())
    try:
        yield
    finally:
        torch.set_num_threads(before)
