"""A trainer in two processes, as `-num_gpus 2` starts it, on CPUs."""

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
from torch.nn.parallel import DistributedDataParallel

pytest.importorskip("nnunetv2")

from scd_plugin.nnunet.trainers import nnUNetTrainerSCD_demo

pytestmark = pytest.mark.slow


class Deep(nnUNetTrainerSCD_demo):
    scd_deep_supervision = True


def joined(trainer: Any, rank: int, port: int) -> Any:
    """Initialize a trainer, and let it join another process's."""
    torch.set_num_threads(1)
    torch.manual_seed(rank)
    trainer.initialize()
    # after that: nnU-Net would move a trainer that knows of its peers to a CUDA device
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=2)
    trainer.is_ddp, trainer.local_rank = True, rank
    trainer.network = DistributedDataParallel(trainer.network)
    return trainer


def in_two_processes(run: Callable[..., None], trainer: Any, folder: Path) -> None:
    """Call `run` in two processes: their number, a port, the folder, and what a trainer like this one is made with."""
    # nnU-Net takes this entry out of the plans
    plans = {**trainer.plans_manager.plans, "continue_training": False}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(run, args=(port, str(folder), {**trainer.my_init_kwargs, "plans": plans}), nprocs=2)


def save_and_load(rank: int, port: int, folder: str, arguments: dict[str, Any]) -> None:
    trainer = joined(Deep(**arguments), rank, port)
    flags = []
    for enabled in (False, True):
        trainer.set_deep_supervision_enabled(enabled)
        flags.append(trainer.network.module.decoder.deep_supervision)

    file = Path(folder) / "c.pth"
    for trainer.current_epoch in range(5):
        trainer.save_checkpoint(str(file))
        dist.barrier()
        files = sorted(path.name for path in file.parent.glob("c.pth*"))
        # no process writes before the other has looked
        dist.barrier()
        assert files == ["c.pth"]
    with torch.no_grad():
        for parameter in trainer.network.parameters():
            parameter.fill_(rank)
    trainer.load_checkpoint(str(file))
    torch.save(
        {"flags": flags, "epoch": trainer.current_epoch, "weights": trainer.network.module.state_dict()},
        Path(folder) / f"rank_{rank}.pt",
    )
    dist.destroy_process_group()


def test_one_whole_checkpoint_that_both_read(make_trainer: Callable[..., Any], tmp_path: Path) -> None:
    in_two_processes(save_and_load, make_trainer(Deep, initialize=True), tmp_path)
    written = torch.load(tmp_path / "c.pth", weights_only=False)["network_weights"]
    for rank in (0, 1):
        found = torch.load(tmp_path / f"rank_{rank}.pt")
        assert found["flags"] == [False, True]
        assert found["epoch"] == 5
        assert found["weights"].keys() == written.keys()
        assert all(torch.equal(value, written[name]) for name, value in found["weights"].items())


def learn_and_count(rank: int, port: int, folder: str, arguments: dict[str, Any]) -> None:
    trainer = joined(nnUNetTrainerSCD_demo(**arguments), rank, port)
    noise = torch.randn(2, 1, 32, 32, 32, generator=torch.Generator().manual_seed(rank))
    batch = {"data": noise, "target": (noise > 2 + rank).float(), "keys": ["a", "b"]}
    trainer.train_step(batch)
    network = trainer.network.module
    gradients = [parameter.grad for stage in network.pruning_stages() for parameter in stage.score.parameters()]
    network.eval()
    with torch.no_grad():
        trainer.validation_step(batch)
    found = {"gradients": gradients, "own": trainer.loss.audit.tokens.tokens}
    torch.save({**found, "all": trainer.loss.audit.of_all_processes().tokens.tokens}, Path(folder) / f"rank_{rank}.pt")
    dist.destroy_process_group()


def test_labels_teach_and_tokens_are_counted(make_trainer: Callable[..., Any], tmp_path: Path) -> None:
    in_two_processes(learn_and_count, make_trainer(nnUNetTrainerSCD_demo, initialize=True), tmp_path)
    first, second = (torch.load(tmp_path / f"rank_{rank}.pt") for rank in (0, 1))
    for own, others in zip(first["gradients"], second["gradients"]):
        torch.testing.assert_close(own, others)
        assert own.abs().max() > 0
    # fewer tokens of the second's batch are foreground
    assert not torch.equal(first["own"], second["own"])
    assert torch.equal(first["all"], first["own"] + second["own"])
    assert torch.equal(first["all"], second["all"])
