"""From a dense Primus to SCD-Primus: loads its state dicts, and prunes the network itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from scd_plugin.networks.checkpoints import mismatch
from scd_plugin.networks.primus_settings import primus_arguments_of
from scd_plugin.networks.scd_primus import SCDPrimus
from scd_plugin.networks.transfer import move_positions
from scd_plugin.networks.wrappers import unwrapped, without_wrappers

__all__ = ["load_primus_state_dict", "prune_primus"]


def load_primus_state_dict(
    net: SCDPrimus, state_dict: Mapping[str, Tensor], *, old_grid: Sequence[int] | None = None
) -> None:
    """Load the weights of a dense Primus; score predictors and completion keep their start.

    Args:
        net: a network of the same version, size, token patch, channels and classes.
        state_dict: that of `Primus`, with or without the prefixes of DDP and `torch.compile`; not changed.
        old_grid: tokens per axis that it was trained on; positions are interpolated. None for those of `net`.

    Raises:
        ValueError: if keys are missing or unknown, or shapes differ: all of them are named in this one error, and
            the network is left as it was.
    """
    theirs = without_wrappers(state_dict)
    if old_grid is not None and net.positions in theirs:
        theirs[net.positions] = move_positions(net, theirs[net.positions], old_grid)
    own = net.state_dict()
    shared = {name: value for name, value in own.items() if not name.startswith(net.new_parts)}
    if problems := mismatch(shared, theirs):
        msg = f"the checkpoint is not of the dense Primus inside of this {type(net).__name__}; {problems}"
        raise ValueError(msg)
    net.load_state_dict({**own, **theirs})


def prune_primus(
    primus: nn.Module, *, prior: str = "entropy", prune_after: Sequence[int] | None = None, **changes: Any
) -> SCDPrimus:
    """Let tokens leave a trained dense Primus on the way, without any training.

    Tokens are chosen by a training-free score and decoded as they were when they left. There is no new parameter.

    Args:
        primus: a `Primus`, `PrimusV2` or `PrimusV3` of dynamic-network-architectures, or an `SCDPrimus` that keeps all
            tokens; wrappers of DDP and `torch.compile` are looked through. Not changed.
        prior: the score, see `scd_plugin.networks.priors`.
        prune_after: 1-based blocks; None for a quarter, half and three quarters of the depth, which a network that was
            not trained for it bore better than one early stage at a share of a half, and as well or worse at others.
        changes: further arguments of the pruning, such as `keep_ratio`, or `regions` for a network of regions.

    Returns:
        The network, on the same device, in the same precision and mode, with weights of its own; not compiled.

    Raises:
        ValueError: if `primus` is no such network or prunes already, or a change is not one of the pruning.
    """
    inner: Any = unwrapped(primus)
    arguments = primus_arguments_of(inner)
    # of the scores alone: no weight depends on it
    if fixed := sorted((set(changes) - {"regions"}) & set(arguments)):
        msg = f"changes must be of the pruning, such as keep_ratio; got {', '.join(fixed)}, which the weights settle"
        raise ValueError(msg)
    if prune_after is None:
        # fewer stages in fewer than four layers
        prune_after = sorted({len(inner.eva.blocks) * quarter // 4 for quarter in (1, 2, 3)} - {0})
    settings = {"sampling": "prior", "prior": prior, "prune_after": prune_after, "completion": "restore", **changes}
    net = SCDPrimus(**{**arguments, **settings})
    load_primus_state_dict(net, inner.state_dict())
    return net.to(next(inner.parameters())).train(inner.training)
