"""SCD-Primus as one graph: compiled, exported with any batch, and in two processes."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from scd_plugin import SCDPrimus
from scd_plugin.networks.priors import PRIORS
from scd_plugin.ops import exit_stages

pytestmark = pytest.mark.slow

TINY: dict[str, Any] = {
    "img_size": 16,
    "patch_size": 4,
    "hidden_size": 24,
    "num_heads": 2,
    "num_layers": 3,
    "prune_after": (1, 2),
}
VARIANTS: list[dict[str, Any]] = [
    {},
    *[{"prior": prior, "sampling": "prior", "completion": "restore"} for prior in PRIORS],
    {"prior": None, "completion": "mask_token", "num_register_tokens": 2},
    {"version": 2},
    {"version": 3, "sampling": "random"},
    {"spatial_dims": 2, "version": 2},
    {"keep_ratio": 1},
]
Build = Callable[..., SCDPrimus]


@pytest.fixture(autouse=True)
def _reset() -> None:
    torch.compiler.reset()


class WithStages(nn.Module):
    """Logits, and the stage at which each token leaves."""

    def __init__(self, net: SCDPrimus) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return self.net(image), exit_stages(self.net.encode(image).grid_idx)


# a training-free score adds nothing that is learned, so one of them says what all say
TRAINED = [changes for changes in VARIANTS if changes.get("prior") in (None, "entropy")]


@pytest.mark.parametrize("changes", TRAINED, ids=str)
def test_full_graph(small_primus: Build, changes: dict[str, Any]) -> None:
    net = small_primus(**{**TINY, **changes})
    image = torch.randn(2, *net.image_shape)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    compiled(image).square().mean().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    net.eval()
    with torch.no_grad():
        torch.testing.assert_close(compiled(image), net(image))


def test_generated_code(small_primus: Build) -> None:
    net = small_primus(**TINY)
    image = torch.randn(2, *net.image_shape)
    compiled = torch.compile(net, fullgraph=True)
    compiled(image).square().mean().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in net.parameters())
    net.eval()
    with torch.no_grad():
        torch.testing.assert_close(compiled(image), net(image), atol=1e-4, rtol=0)


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_export_with_any_batch(small_primus: Build, tmp_path: Path, changes: dict[str, Any]) -> None:
    net = small_primus(**{**TINY, **changes}).eval()
    example = torch.randn(2, *net.image_shape)
    program = torch.export.export(WithStages(net).eval(), (example,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    torch.export.save(program, tmp_path / "model.pt2")
    run = torch.export.load(tmp_path / "model.pt2").module()
    for batch in (1, 3):
        image = torch.randn(batch, *net.image_shape)
        logits, stages = run(image)
        assert torch.equal(stages, net.exit_stages(image).flatten(1))
        torch.testing.assert_close(logits, net(image), atol=1e-4, rtol=0)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
def test_trace(small_primus: Build, tmp_path: Path) -> None:
    net = small_primus(**TINY).eval()
    torch.jit.trace(net, torch.randn(2, *net.image_shape)).save(tmp_path / "model.ts")
    image = torch.randn(3, *net.image_shape)
    torch.testing.assert_close(torch.jit.load(tmp_path / "model.ts")(image), net(image), atol=1e-4, rtol=0)


def network() -> SCDPrimus:
    torch.manual_seed(0)
    # without noise: each process would draw its own
    return SCDPrimus(1, 2, keep_ratio=0.5, sampling="topk", num_register_tokens=1, **TINY)


def process(rank: int, port: int, folder: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    # every parameter is used, so DDP need not look for unused ones
    net = DistributedDataParallel(network())
    image = torch.randn(4, 1, 16, 16, 16, generator=torch.Generator().manual_seed(1))
    for _ in range(2):
        net.zero_grad()
        net(image[rank::2]).square().mean().backward()
    torch.save([p.grad for p in net.parameters()], Path(folder) / f"gradients_{rank}.pt")
    dist.destroy_process_group()


def test_gradients_are_those_of_the_joint_batch(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(process, args=(port, str(tmp_path)), nprocs=2)
    net = network()
    image = torch.randn(4, 1, 16, 16, 16, generator=torch.Generator().manual_seed(1))
    net(image).square().mean().backward()
    for rank in (0, 1):
        gradients = torch.load(tmp_path / f"gradients_{rank}.pt")
        for (name, parameter), gradient in zip(net.named_parameters(), gradients):
            torch.testing.assert_close(gradient, parameter.grad, atol=1e-6, rtol=1e-3, msg=name)
