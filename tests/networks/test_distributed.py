"""Two processes with half a batch each learn the same as one process with all of it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from scd_plugin import SCDUNETR

pytestmark = pytest.mark.slow


def network(memory: str) -> SCDUNETR:
    torch.manual_seed(0)
    # without noise: each process would draw its own
    pruning = {"prune_after": (1, 2), "keep_ratio": 0.5, "sampling": "topk", "memory": memory}
    return SCDUNETR(1, 2, 16, 2, 24, 48, 2, patch_size=4, num_layers=3, **pruning)  # type: ignore[arg-type]


def batch() -> torch.Tensor:
    return torch.randn(4, 1, 16, 16, 16, generator=torch.Generator().manual_seed(1))


def learn(net: torch.nn.Module, image: torch.Tensor) -> None:
    net(image).square().mean().backward()


def process(rank: int, port: int, folder: str, memory: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    # every parameter is used, so DDP need not look for unused ones
    net = DistributedDataParallel(network(memory))
    for _ in range(2):
        net.zero_grad()
        learn(net, batch()[rank::2])
    torch.save([p.grad for p in net.parameters()], Path(folder) / f"gradients_{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("memory", ["none", "tokens", "pooled"])
def test_gradients_are_those_of_the_joint_batch(tmp_path: Path, memory: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(process, args=(port, str(tmp_path), memory), nprocs=2)
    net = network(memory)
    learn(net, batch())
    for rank in (0, 1):
        gradients = torch.load(tmp_path / f"gradients_{rank}.pt")
        for (name, parameter), gradient in zip(net.named_parameters(), gradients):
            torch.testing.assert_close(gradient, parameter.grad, atol=1e-6, rtol=1e-3, msg=name)
