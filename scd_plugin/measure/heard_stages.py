"""The stages at which tokens leave in a forward pass, heard while the pass computes something else."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from scd_plugin.blocks.pruning import PrunedTokens
from scd_plugin.networks.family import SCDNetwork
from scd_plugin.ops import exit_stages

__all__ = ["HeardStages"]


class HeardStages:
    """Listens to a network's pruning stages, by hooks; the network and its forward pass stay as they are.

    Args:
        network: listened to as long as it lives.

    Raises:
        ValueError: if the network prunes nothing.
    """

    def __init__(self, network: nn.Module) -> None:
        if not isinstance(network, SCDNetwork) or not network.pruning_stages():
            msg = "a keep map is for networks that prune tokens, and this one prunes none; leave it out"
            raise ValueError(msg)
        self._grid_size = list(network.grid_size)
        self._token_size = list(network.token_size())
        stages = network.pruning_stages()
        self.num_stages = len(stages)
        self._sets: list[Tensor] = []
        for stage in stages:
            stage.register_forward_hook(self._listen)

    def forget(self) -> None:
        """Forget what was heard, whatever a pass that failed has left."""
        self._sets = []

    def take(self) -> Tensor | None:
        """Return the stages of the first pass since the last call, and forget them; None if there was no whole pass.

        They are (B, *img_size), uint8: 1 for voxels whose token left at the first stage, 2 at the second, ..., and the
        number of stages plus 1 for those whose token stayed to the end.
        """
        sets, self._sets = self._sets, []
        if len(sets) <= self.num_stages:
            return None
        values = (exit_stages(sets) + 1).to(torch.uint8)
        values = values.reshape([len(values), *self._grid_size])
        for axis, voxels in enumerate(self._token_size):
            values = values.repeat_interleave(voxels, dim=axis + 1)
        return values

    def _listen(self, _: nn.Module, __: tuple[Any, ...], pruned: PrunedTokens) -> None:
        # mirrored passes follow the first
        if len(self._sets) < self.num_stages:
            self._sets.append(pruned.left_idx)
            if len(self._sets) == self.num_stages:
                self._sets.append(pruned.kept_idx)
