"""How far a pruned network agrees with the dense one that it came from, against the share of tokens kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scd_plugin.networks.primus_checkpoints import prune_primus
from scd_plugin.networks.priors import PRIORS

__all__ = ["Agreement", "agreement", "sweep_agreement"]


@dataclass(frozen=True)
class Agreement:
    """Of one pruned network, over all images."""

    prior: str
    keep_ratio: float
    dice: tuple[float, ...]
    """Per class but the first, between the pruned and the dense prediction; NaN where neither has the class"""
    voxels: float
    """Share of voxels with the same label"""
    logit_error: float
    """Norm of the logits' difference divided by the norm of the dense logits"""


def agreement(dense: nn.Module, pruned: nn.Module, images: Iterable[Tensor]) -> tuple[tuple[float, ...], float, float]:
    """Dice per class but the first, share of equal labels, and relative error of the logits; see `Agreement`.

    Args:
        dense: network whose prediction is the reference; in evaluation mode.
        pruned: the other, likewise.
        images: batches (B, in_channels, *img_size).
    """
    overlap: Tensor | None = None
    equal = voxels = 0
    error = norm = 0.0
    with torch.no_grad():
        for image in images:
            wanted, found = dense(image), pruned(image)
            error += (found - wanted).double().square().sum().item()
            norm += wanted.double().square().sum().item()
            truth, label = wanted.argmax(dim=1), found.argmax(dim=1)
            equal += int((truth == label).sum())
            voxels += label.numel()
            counts = _confusion(truth, label, wanted.shape[1])
            overlap = counts if overlap is None else overlap + counts
    if overlap is None:
        msg = "images must hold at least one batch; got none"
        raise ValueError(msg)
    dice = 2 * overlap.diagonal() / (overlap.sum(dim=0) + overlap.sum(dim=1))
    return tuple(dice[1:].tolist()), equal / voxels, (error / norm) ** 0.5


def sweep_agreement(
    dense: nn.Module,
    images: Sequence[Tensor],
    *,
    priors: Sequence[str] = PRIORS,
    keep_ratios: Sequence[float] = (0.9, 0.75, 0.5, 0.25),
    prune_after: Sequence[int] | None = None,
) -> list[Agreement]:
    """Prune a trained Primus by every score and every share, without training, and compare with itself unpruned.

    Args:
        dense: as for `prune_primus`; in evaluation mode.
        images: batches (B, in_channels, *img_size), on its device.
        priors: scores to try; `"random"` for a choice by chance, the floor that a score must beat.
        keep_ratios: shares kept at each stage.
        prune_after: 1-based blocks; None for quarters of the depth.
    """
    results = []
    for prior in priors:
        chance = {"sampling": "random"} if prior == "random" else {"prior": prior}
        for keep_ratio in keep_ratios:
            pruned = prune_primus(dense, keep_ratio=keep_ratio, prune_after=prune_after, **chance)
            results.append(Agreement(prior, keep_ratio, *agreement(dense, pruned, images)))
    return results


def _confusion(truth: Tensor, label: Tensor, num_classes: int) -> Tensor:
    """(classes, classes), float64: voxels by reference and by label."""
    pairs = (truth * num_classes + label).flatten()
    return torch.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes).double()
