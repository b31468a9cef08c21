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


def process(rank: int, port: int, folder: str, arguments: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(rank)
    trainer = Deep(**arguments)
    trainer.initialize()
    # after that: nnU-Net would move a trainer that knows of its peers to a CUDA device
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=2)
    trainer.is_ddp, trainer.local_rank = True, rank
    trainer.network = DistributedDataParallel(trainer.network)
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
    made = make_trainer(Deep, initialize=True)
    # nnU-Net takes this entry out of the plans
    plans = {**made.plans_manager.plans, "continue_training": False}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(process, args=(port, str(tmp_path), {**made.my_init_kwargs, "plans": plans}), nprocs=2)
    written = torch.load(tmp_path / "c.pth", weights_only=False)["network_weights"]
    for rank in (0, 1):
        found = torch.load(tmp_path / f"rank_{rank}.pt")
        assert found["flags"] == [False, True]
        assert found["epoch"] == 5
        assert found["weights"].keys() == written.keys()
        assert all(torch.equal(value, written[name]) for name, value in found["weights"].items())
