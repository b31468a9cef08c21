"""The audit of a network that prunes: which tokens leave where, and what that does to the segmentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from scd_plugin.measure.segmentation_audit import SegmentationAudit
from scd_plugin.measure.token_audit import TokenAudit
from scd_plugin.networks.family import SCDNetwork
from scd_plugin.networks.guidance import SeenStage
from scd_plugin.ops import exit_stages
from scd_plugin.ops.token_labels import token_labels

__all__ = ["Audit"]


class Audit:
    """Counts tokens, voxels and components of labelled crops.

    Args:
        network: that prunes; only its numbers of stages, outputs and tokens are read.
        regions: whether its outputs are regions, which may overlap, instead of classes.
    """

    def __init__(self, network: SCDNetwork, *, regions: bool = False) -> None:
        self.grid_size = list(network.grid_size)
        self.tokens = TokenAudit(len(network.pruning_stages()))
        self.segmentation = SegmentationAudit(network.out_channels, regions=regions)
        self._num_outputs = network.out_channels
        # whole ones, where there are
        self.images = 0

    def add(
        self,
        seen: Sequence[SeenStage],
        logits: Tensor,
        label: Tensor,
        *,
        known: Tensor | None = None,
        components: bool = True,
    ) -> None:
        """Count a batch of crops.

        Args:
            seen: the stages of its forward pass.
            logits: (B, out_channels, *size), the network's output.
            label: (B, 1, *size) class numbers, or (B, out_channels, *size), 0 or 1 for each region.
            known: (B, 1, *size), bool, voxels whose label counts; None for all.
            components: whether they are counted, which takes a CPU longer than all else.

        Raises:
            ValueError: if a label that counts is of no class.
        """
        known = torch.ones_like(label[:, :1], dtype=torch.bool) if known is None else known
        prediction = self.add_part(seen, logits, label, known)
        if components:
            self.segmentation.add_components(prediction, label.long(), known)

    def add_part(self, seen: Sequence[SeenStage], logits: Tensor, label: Tensor, known: Tensor) -> Tensor:
        """Count a batch of parts of images, without components, which a part may cut; see `add`.

        Returns:
            The decided segmentation, see `SegmentationAudit.decide`.
        """
        # regions are 0 or 1; to look at the largest makes a GPU wait
        if not self.segmentation.regions:
            self._check_classes(torch.where(known, label, 0))
        exits = exit_stages([*(stage.left_idx for stage in seen), seen[-1].kept_idx])
        labels = token_labels(label, self.grid_size, known=known, regions=self.segmentation.regions)
        self.tokens.add(exits, labels)
        exits = exits.unflatten(1, self.grid_size)  # type: ignore[no-untyped-call]
        prediction = self.segmentation.decide(logits)
        self.segmentation.add_voxels(prediction, label.long(), exits, self.tokens.num_stages, known)
        return prediction

    def _check_classes(self, label: Tensor) -> None:
        if (largest := int(label.max())) >= self._num_outputs:
            msg = (
                f"a label is {largest}, and the network has the classes 0 to {self._num_outputs - 1}; mark voxels "
                "whose label does not count by `known`"
            )
            raise ValueError(msg)

    def of_all_processes(self) -> Audit:
        """All processes' audits together, where there are several; each of them must ask for it."""
        if not (dist.is_available() and dist.is_initialized()):
            return self
        audits: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(audits, self)
        first, *others = audits
        first.tokens = first.tokens.merge([other.tokens for other in others])
        first.images += sum(other.images for other in others)
        first.segmentation = first.segmentation.merge([other.segmentation for other in others])
        merged: Audit = first
        return merged

    def in_one_line(self) -> str:
        """For a log."""
        return f"{self.tokens.in_one_line()}; {self.segmentation.in_one_line()}"

    def row(self) -> dict[str, float]:
        """For a table: every value by a name of its own."""
        return {**self.tokens.row(), **self.segmentation.row()}
