"""nnU-Net's loss, and beside it what the labels say of each token: they teach the scores, and an audit counts."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist
from torch import Tensor, nn

from scd_plugin.measure.token_audit import TokenAudit
from scd_plugin.networks.family import SCDNetwork
from scd_plugin.networks.guidance import StageWatch, guidance_loss
from scd_plugin.nnunet.token_targets import target_token_labels

__all__ = ["WatchedLoss", "of_all_processes"]


class WatchedLoss(nn.Module):
    """Called by nnU-Net right after a forward pass, in training and in validation.

    `guide` is the weight of the scores' own loss in training, 0 for the paper's; `target` is what tokens should be kept
    for, one of `scd_plugin.networks.guidance.TARGETS`. The network prunes, and has no wrappers.
    """

    def __init__(
        self, loss: nn.Module, network: SCDNetwork, label_manager: Any, *, guide: float = 0.0, target: str = "mixed"
    ) -> None:
        super().__init__()
        self.loss = loss
        self.guide = guide
        self.target = target
        self._labels = label_manager
        # no part of this module: the network is trained, not the loss
        self._network = [network]
        self._watch = StageWatch(network)
        self.audit = TokenAudit(len(network.pruning_stages()))

    def new_audit(self) -> TokenAudit:
        """What was counted since the last call; counting begins anew."""
        done, self.audit = self.audit, TokenAudit(self.audit.num_stages)
        return done

    def forward(self, output: Tensor | list[Tensor], target: Tensor | list[Tensor]) -> Tensor:
        """The loss of a batch, of lists under deep supervision; in validation its tokens are counted."""
        loss: Tensor = self.loss(output, target)
        network, seen = self._network[0], self._watch.take()
        if not seen or (network.training and not self.guide):
            return loss
        full = target[0] if isinstance(target, list) else target
        labels = target_token_labels(full, network.grid_size, self._labels)
        if not network.training:
            self.audit.add([*(stage.left_idx for stage in seen), seen[-1].kept_idx], labels)
            return loss
        return loss + self.guide * guidance_loss(seen, labels, target=self.target)


def of_all_processes(audit: TokenAudit, *, is_ddp: bool) -> TokenAudit:
    """The audit of a validation in all processes, where there are several; each of them must ask for it."""
    if not is_ddp:
        return audit
    audits: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(audits, audit)
    return audits[0].merge(audits[1:])
