"""nnU-Net's loss, and beside it what the labels say of each token: they teach the scores, and an audit counts."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from scd_plugin.measure.audit import Audit
from scd_plugin.networks.family import SCDNetwork
from scd_plugin.networks.guidance import TARGET, StageWatch, guidance_loss
from scd_plugin.nnunet.token_targets import known_labels, target_token_labels

__all__ = ["WatchedLoss"]


COMPONENT_BATCHES = 20
"""Batches of a validation whose components are counted: of large crops that takes a CPU 0.1 to 0.5 s a batch."""


class WatchedLoss(nn.Module):
    """Called by nnU-Net right after a forward pass, in training and in validation.

    `guide` is the weight of the scores' own loss in training, 0 for the paper's; `target` is what tokens should be kept
    for, one of `scd_plugin.networks.guidance.TARGETS`. The network prunes, and has no wrappers.
    """

    def __init__(
        self, loss: nn.Module, network: SCDNetwork, label_manager: Any, *, guide: float = 0.0, target: str = TARGET
    ) -> None:
        super().__init__()
        self.loss = loss
        self.guide = guide
        self.target = target
        self._labels = label_manager
        # no part of this module: the network is trained, not the loss
        self._network = [network]
        self._watch = StageWatch(network)
        self.unwatched = self._watch.paused
        self.audit = self.new_audit()

    def new_audit(self) -> Audit:
        """Begin to count anew."""
        self.audit = Audit(self._network[0], regions=self._labels.has_regions)
        self._audited = 0
        return self.audit

    def forward(self, output: Tensor | list[Tensor], target: Tensor | list[Tensor]) -> Tensor:
        """The loss of a batch, of lists under deep supervision; in validation its tokens are counted."""
        loss: Tensor = self.loss(output, target)
        network, seen = self._network[0], self._watch.take()
        if not seen or (network.training and not self.guide):
            return loss
        first, full = (part[0] if isinstance(part, list) else part for part in (output, target))
        if not network.training:
            label, known = known_labels(full, self._labels)
            self.audit.add(seen, first, label, known=known, components=self._audited < COMPONENT_BATCHES)
            self._audited += 1
            return loss
        labels = target_token_labels(full, network.grid_size, self._labels)
        return loss + self.guide * guidance_loss(seen, labels, target=self.target)
