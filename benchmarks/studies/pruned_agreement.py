"""Measures how far a pruned network agrees with its dense original, and how fast it is, against the share kept."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import median

import torch
from torch import Tensor, nn

from scd_plugin.measure.cost import multiply_accumulates
from scd_plugin.networks.primus_checkpoints import prune_primus
from scd_plugin.networks.priors import PRIORS

__all__ = ["Agreement", "Comparison", "agreement", "sweep_agreement"]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How a pruned network compares with a dense one, over all images."""

    dice: tuple[float, ...]
    """Per class but the first, between the pruned and the dense prediction; NaN where neither has the class"""
    voxels: float
    """Share of voxels with the same label"""
    logit_error: float
    """Norm of the logits' difference divided by the norm of the dense logits"""
    operations: float
    """Multiply-accumulates of the pruned network's prediction divided by those of the dense one's"""
    seconds: float
    """Median time in which the pruned network predicts a batch of images"""
    dense_seconds: float
    """Median time of the dense network, measured in turn with the pruned one"""


@dataclass(frozen=True, kw_only=True)
class Agreement(Comparison):
    """The comparison for one score and one share kept."""

    prior: str
    keep_ratio: float


def agreement(dense: nn.Module, pruned: nn.Module, images: Iterable[Tensor]) -> Comparison:
    """Compare the predictions of two networks, and their speed. The first batch is predicted once more, to warm up.

    Args:
        dense: network whose prediction is the reference; in evaluation mode.
        pruned: network that is compared with it; in evaluation mode.
        images: batches (B, in_channels, *img_size), on the networks' device.

    Raises:
        ValueError: if there is no image.
    """
    overlap: Tensor | None = None
    operations = 1.0
    equal = voxels = 0
    error = norm = 0.0
    times: tuple[list[float], list[float]] = ([], [])
    with torch.no_grad():
        for image in images:
            if overlap is None:
                operations = multiply_accumulates(pruned, image) / multiply_accumulates(dense, image)
                for network in (dense, pruned):
                    network(image)
            wanted, found = (_timed(network, image, taken) for network, taken in zip((dense, pruned), times))
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
    return Comparison(
        dice=tuple(dice[1:].tolist()),
        voxels=equal / voxels,
        logit_error=(error / norm) ** 0.5,
        operations=operations,
        seconds=median(times[1]),
        dense_seconds=median(times[0]),
    )


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
        dense: a network that `prune_primus` takes; in evaluation mode.
        images: batches (B, in_channels, *img_size), on the network's device.
        priors: scores to try; `"random"` for a choice by chance, the floor that a score must beat.
        keep_ratios: shares kept at each stage.
        prune_after: 1-based blocks; None for quarters of the depth.
    """
    results = []
    for prior in priors:
        chance = {"sampling": "random"} if prior == "random" else {"prior": prior}
        for keep_ratio in keep_ratios:
            pruned = prune_primus(dense, keep_ratio=keep_ratio, prune_after=prune_after, **chance)
            results.append(Agreement(prior=prior, keep_ratio=keep_ratio, **asdict(agreement(dense, pruned, images))))
    return results


def _timed(network: nn.Module, image: Tensor, taken: list[float]) -> Tensor:
    """Predict, and append the seconds taken to a list."""
    device = torch.get_device_module(image.device)
    device.synchronize()
    start = time.perf_counter()
    logits = network(image)
    device.synchronize()
    taken.append(time.perf_counter() - start)
    return logits


def _confusion(truth: Tensor, label: Tensor, num_classes: int) -> Tensor:
    """Count voxels by reference and by label: (classes, classes), float64."""
    pairs = (truth * num_classes + label).flatten()
    return torch.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes).double()
