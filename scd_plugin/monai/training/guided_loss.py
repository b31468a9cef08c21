"""The loss of a bundle's training, beside which labels teach the scores of tokens."""

from __future__ import annotations

from torch import Tensor, nn

from scd_plugin.networks.family import SCDNetwork
from scd_plugin.networks.guidance import TARGETS, StageWatch, guidance_loss, refuse_unteachable
from scd_plugin.ops.token_labels import token_labels

__all__ = ["GuidedLoss"]


class GuidedLoss(nn.Module):
    """Called by MONAI right after a forward pass of training.

    Args:
        loss: of the segmentation.
        network: without a wrapper, such as that for several processes.
        guide: weight of the scores' own loss; 0 for the loss of the segmentation alone.
        target: what tokens should be kept for, one of `scd_plugin.networks.guidance.TARGETS`.
        regions: whether labels are regions, which may overlap, instead of class numbers.

    Raises:
        ValueError: if the weight is negative or there is no such target; if scores are to be taught that the network,
            which prunes nothing or chooses without learning, does not have.
    """

    def __init__(
        self, loss: nn.Module, network: SCDNetwork, *, guide: float = 0.0, target: str = "mixed", regions: bool = False
    ) -> None:
        super().__init__()
        if not guide >= 0 or target not in TARGETS:
            names = ", ".join(TARGETS)
            msg = f"guide must be 0 or more and guide_target one of {names}; got {guide!r} and {target!r}"
            raise ValueError(msg)
        refuse_unteachable(network, guide)
        self.loss, self.guide, self.target, self.regions = loss, guide, target, regions
        self._grid_size = network.grid_size
        self._watch = StageWatch(network) if guide else None

    def forward(self, pred: Tensor, label: Tensor) -> Tensor:
        """Logits (B, C, *size) and labels (B, 1, *size), or (B, R, *size) for regions, to a scalar."""
        loss: Tensor = self.loss(pred, label)
        if self._watch is None:
            return loss
        labels = token_labels(label, self._grid_size, regions=self.regions)
        return loss + self.guide * guidance_loss(self._watch.take(), labels, target=self.target)
