"""The end of a training or an evaluation in several processes."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

if dist.is_available():
    # Imported while no group exists: DistributedDataParallel imports it otherwise, and its functions' default arguments
    # would then hold the group, whose threads would outlive the interpreter.
    import torch.distributed.nn.functional


def leave_process_group(network: nn.Module) -> None:
    """Wait for the other processes, then end the group and its threads.

    Without the wait a process that is done, or that fails as it ends, lets the launcher stop another one that still
    writes its checkpoint. And ``destroy_process_group`` alone leaves a group alive as long as a
    ``DistributedDataParallel`` refers to it: a gloo thread that frees a tensor while the interpreter shuts down then
    aborts the process. Does nothing where there is no group.

    Args:
        network: what was trained or evaluated; wrapped in ``DistributedDataParallel``, it can't be called afterwards.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return
    dist.barrier(device_ids=[torch.cuda.current_device()] if dist.get_backend() == "nccl" else None)
    dist.destroy_process_group()
    if isinstance(network, DistributedDataParallel):
        for holder in ("process_group", "logger", "reducer"):
            setattr(network, holder, None)
