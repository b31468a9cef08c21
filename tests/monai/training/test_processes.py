"""A process group that ends, and nothing of it that outlives it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from scd_plugin.monai import leave_process_group

THREADS = Path("/proc/self/task")


def threads() -> set[str]:
    return {task.name for task in THREADS.iterdir()}


@pytest.mark.skipif(not THREADS.exists(), reason="reads the process's threads where Linux shows them")
@pytest.mark.parametrize("wrapped", [True, False], ids=["wrapped", "plain"])
def test_no_thread_stays(wrapped: bool) -> None:
    before = threads()
    dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())
    of_the_group = threads() - before
    assert of_the_group
    network: nn.Module = nn.Linear(3, 3)
    if wrapped:
        network = DistributedDataParallel(network)
    network(torch.ones(2, 3)).sum().backward()
    leave_process_group(network)
    assert not dist.is_initialized()
    # Linux lists a thread for a moment after it was joined
    deadline = time.monotonic() + 10
    while of_the_group & threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not of_the_group & threads()


def test_without_a_group() -> None:
    network = nn.Linear(3, 3)
    leave_process_group(network)
    assert network(torch.zeros(1, 3)).shape == (1, 3)
