"""How well voxels are segmented by when their token left, and which components are found, by their size."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from skimage.measure import label as connected_components
from torch import Tensor

__all__ = ["FOUND", "GROUPS", "SIZES", "SegmentationAudit", "components_found", "overlaps"]

GROUPS = ("early", "late", "kept")
"""Tokens that left at the first stage, at a later one, and never."""
SIZES = (1, 9, 65, 513)
"""Smallest components of the bins, in voxels: those below two voxels' edge, below four, below eight, and larger."""
FOUND = 0.1
"""Share of a component's voxels that must be predicted as its class for it to count as found."""


class SegmentationAudit:
    """Counts voxels and components of labelled crops.

    Args:
        num_outputs: channels of the network's logits.
        regions: whether these are regions, which may overlap, instead of classes.
    """

    def __init__(self, num_outputs: int, *, regions: bool = False) -> None:
        self.regions = regions
        # by group and class: voxels of both, predicted, labelled
        self.voxels = torch.zeros(len(GROUPS), num_outputs if regions else num_outputs - 1, 3, dtype=torch.float64)
        # by size: found, all
        self.components = np.zeros((len(SIZES), 2), dtype=np.int64)

    def decide(self, logits: Tensor) -> Tensor:
        """Turn logits (B, num_outputs, *size) into class numbers (B, 1, *size), or into 0 and 1 for each region."""
        return (logits > 0).long() if self.regions else logits.argmax(1, keepdim=True)

    def add_voxels(self, prediction: Tensor, truth: Tensor, exits: Tensor, num_stages: int, known: Tensor) -> None:
        """Count the voxels of a batch.

        Args:
            prediction: as `decide` returns it.
            truth: like it.
            exits: (B, *grid), int64, the stage at which each token leaves; `num_stages` for those that stay.
            num_stages: pruning stages.
            known: (B, 1, *size), bool, voxels whose label counts.
        """
        group = (exits > 0).long() + (exits == num_stages)
        groups = F.interpolate(group[:, None].float(), size=truth.shape[2:]).long()
        # in no group
        groups = torch.where(known, groups, -1)[:, 0]
        num_classes = 2 if self.regions else self.voxels.shape[1] + 1
        for channel in range(truth.shape[1]):
            # as labels that do not count may be of no class
            one = torch.where(groups < 0, 0, truth[:, channel])
            counts = overlaps(prediction[:, channel], one, groups, len(GROUPS), num_classes)[:, 1:]
            self.voxels[:, channel : channel + counts.shape[1]] += counts

    def add_components(self, prediction: Tensor, truth: Tensor, known: Tensor) -> None:
        """Count the components of a batch; arguments as those of `add_voxels`, and whole images where there are."""
        truth = torch.where(known, truth, 0)
        for pair in zip(*(maps.flatten(0, 1).cpu().numpy() for maps in (prediction, truth))):
            sizes, found = components_found(*pair)
            bins = np.digitize(sizes, SIZES[1:])
            self.components[:, 0] += np.bincount(bins[found], minlength=len(SIZES))
            self.components[:, 1] += np.bincount(bins, minlength=len(SIZES))

    def merge(self, others: Sequence[SegmentationAudit]) -> SegmentationAudit:
        """This and others together, as of several processes."""
        merged = SegmentationAudit(self.voxels.shape[1] + (not self.regions), regions=self.regions)
        for one in (self, *others):
            merged.voxels += one.voxels
            merged.components += one.components
        return merged

    def dice(self) -> list[float]:
        """Dice within the tokens of each of `GROUPS`: mean of the classes that are there; NaN where none is."""
        both, predicted, labelled = self.voxels.unbind(-1)
        # nobody claims anything: NaN, which the mean leaves out
        return (2 * both / (predicted + labelled)).nanmean(1).tolist()

    def in_one_line(self) -> str:
        """For a log."""
        dice = ", ".join("-" if value != value else f"{100 * value:.0f}" for value in self.dice())
        recall = ", ".join(f"{found}/{total}" for found, total in self.components)
        return f"Dice in tokens {', '.join(GROUPS)}: {dice} %; components found of {', '.join(_BINS)} voxels: {recall}"

    def row(self) -> dict[str, float]:
        """For a table: every value by a name of its own; components that there are, and the share that is found."""
        row = {f"dice_{group}": value for group, value in zip(GROUPS, self.dice())}
        for name, (found, total) in zip(_BINS, self.components):
            name = name.replace("-", "_")
            row |= {f"recall_{name}": found / total if total else float("nan"), f"components_{name}": float(total)}
        return row


_BINS = [f"{first}-{after - 1}" for first, after in pairwise(SIZES)] + [f"{SIZES[-1]}+"]


def overlaps(prediction: Tensor, truth: Tensor, groups: Tensor, num_groups: int, num_classes: int) -> Tensor:
    """Count voxels by group and class: those of both maps, predicted ones, labelled ones.

    Args:
        prediction: int64, class numbers.
        truth: like it.
        groups: like it, each voxel's group, -1 where it does not count.
        num_groups: groups.
        num_classes: classes, the background's 0 among them.

    Returns:
        (num_groups, num_classes, 3), float64, on the CPU.
    """
    # voxels that do not count are a group of their own, the first: to take them out costs more than to count them
    first, second = ((groups + 1) * num_classes + maps for maps in (prediction, truth))
    length = (num_groups + 1) * num_classes
    both = torch.where(first == second, first, 0)
    counts = [torch.bincount(keys.flatten(), minlength=length) for keys in (both, first, second)]
    # not every device has float64
    return torch.stack(counts, dim=1).cpu().double().reshape(num_groups + 1, num_classes, 3)[1:]


def components_found(prediction: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Look for each connected component (voxels of one class that touch, by a corner too) in a prediction.

    Args:
        prediction: class numbers.
        truth: like it; 0 is background.

    Returns:
        For each component its voxels, and whether `FOUND` of them are predicted as its class.
    """
    components = connected_components(truth)[truth > 0] - 1  # type: ignore[no-untyped-call]
    right = prediction[truth > 0] == truth[truth > 0]
    sizes = np.bincount(components)
    return sizes, np.bincount(components, weights=right) >= FOUND * sizes
