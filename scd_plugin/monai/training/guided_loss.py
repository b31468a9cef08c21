"""The loss of a bundle's training, beside which labels teach the scores of tokens."""

from __future__ import annotations

import logging

from torch import Tensor, nn

from scd_plugin.networks.family import SCDNetwork
from scd_plugin.networks.guidance import TARGET, TARGETS, StageWatch, guidance_loss, guide_weight
from scd_plugin.ops.token_labels import token_labels

__all__ = ["GuidedLoss"]

_LOGGER = logging.getLogger(__name__)


class GuidedLoss(nn.Module):
    """Called by MONAI right after a forward pass of training.

    Args:
        loss: of the segmentation.
        network: without a wrapper, such as that for several processes.
        guide: weight of the scores' own loss; 0 for the loss of the segmentation alone, as in the paper; None for
            `scd_plugin.networks.guidance.GUIDE` where the network learns a choice of tokens.
        target: what tokens should be kept for, one of `scd_plugin.networks.guidance.TARGETS`.
        regions: whether labels are regions, which may overlap, instead of class numbers.

    Raises:
        ValueError: if the weight is negative or there is no such target; if scores are to be taught that the network,
            which prunes nothing or chooses without learning, does not have.
    """

    def __init__(
        self,
        loss: nn.Module,
        network: SCDNetwork,
        *,
        guide: float | None = None,
        target: str = TARGET,
        regions: bool = False,
    ) -> None:
        super().__init__()
        if target not in TARGETS:
            msg = f"guide_target must be one of {', '.join(TARGETS)}; got {target!r}"
            raise ValueError(msg)
        self.guide = guide_weight(network, guide)
        self.loss, self.target, self.regions = loss, target, regions
        self._grid_size = network.grid_size if self.guide else []
        self._watch = StageWatch(network) if self.guide else None
        if self.guide:
            _LOGGER.info("labels teach which tokens stay, weight %g; --guide 0 turns that off", self.guide)

    def forward(self, pred: Tensor, label: Tensor) -> Tensor:
        """Logits (B, C, *size) and labels (B, 1, *size), or (B, R, *size) for regions, to a scalar."""
        loss: Tensor = self.loss(pred, label)
        if self._watch is None:
            return loss
        labels = token_labels(label, self._grid_size, regions=self.regions)
        return loss + self.guide * guidance_loss(self._watch.take(), labels, target=self.target)
