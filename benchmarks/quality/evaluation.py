"""What a trained network is judged by: Dice, recall by lesion size, and which tokens leave at which stage."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from batches import crops
from monai.inferers import sliding_window_inference
from monai.metrics import DiceMetric
from networks import Contestant
from scipy.ndimage import generate_binary_structure, label, sum_labels
from tasks import Case, Task
from torch import Tensor

from scd_plugin.ops.token_labels import token_labels

OVERLAP = 0.25
RECALL_BINS = (1, 9, 28, 65, 201)
"""lowest sizes of the bins in voxels; the last number ends the last bin"""
FOUND = 0.1
"""share of a lesion's voxels that has to be predicted for it to count as found"""
AUDIT_SEED = 7
AUDIT_CROPS = 2
TOKEN_KINDS = ("mixed", "foreground", "background", "voxels")


@torch.inference_mode()
def predict(network: Contestant, case: Case, task: Task) -> Tensor:
    """Segment a case by sliding windows: class numbers, (1, 1, *size)."""
    device = next(network.parameters()).device
    image = case.image[None].to(device)
    logits = sliding_window_inference(image, task.crop, 2, network, overlap=OVERLAP, mode="gaussian")
    return logits.argmax(1, keepdim=True).float().cpu()


def evaluate(network: Contestant, cases: Sequence[Case], task: Task) -> dict[str, list[float]]:
    """Measure Dice by class as the mean over the cases; by size how many lesions there are, and which share is found.

    The latter where the task asks for it; a share is 0 where there are none of a size.
    """
    network.eval()
    metric = DiceMetric(include_background=False, reduction="mean_batch", num_classes=task.num_classes)
    found = []
    for case in cases:
        prediction = predict(network, case, task)
        metric(prediction, case.label[None])
        if task.recall:
            found.append(lesions_found(prediction[0, 0].numpy() > 0, case.label[0].numpy() > 0))
    scores = {"dice_by_class": metric.aggregate().tolist()}
    if task.recall:
        sizes, hits = np.concatenate([pair[0] for pair in found]), np.concatenate([pair[1] for pair in found])
        bins, num_bins = np.digitize(sizes, RECALL_BINS[1:-1]), len(RECALL_BINS) - 1
        there, right = (np.bincount(bins, weights, num_bins) for weights in (None, hits))
        scores["recall_by_size"] = (right / there.clip(min=1)).tolist()
        scores["lesions_by_size"] = there.tolist()
        scores["false_lesions_a_case"] = [float(np.mean([pair[2] for pair in found]))]
    return scores


def lesions_found(prediction: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Count by component.

    Returns:
        voxels of each true lesion, whether it is found, and the number of predicted components that touch none.
    """
    touching = generate_binary_structure(3, 3)
    lesions, count = label(truth, touching)
    numbers = np.arange(1, count + 1)
    sizes = sum_labels(truth, lesions, numbers)
    predicted, num_predicted = label(prediction, touching)
    right = sum_labels(truth, predicted, np.arange(1, num_predicted + 1))
    return sizes, sum_labels(prediction, lesions, numbers) >= FOUND * sizes, int((np.asarray(right) == 0).sum())


@torch.inference_mode()
def leaving(network: Contestant, cases: Sequence[Case], task: Task) -> dict[str, list[float]]:
    """Measure which share of the tokens of a kind leaves at each stage, the last number being those that stay.

    Kinds: more than one class in the token, any foreground, none; and foreground voxels, in whatever tokens. On crops
    drawn as in training, without augmentation, the same ones for each network. Empty for a network that prunes nothing.
    """
    stages = network.pruning_stages()
    if not stages:
        return {}
    network.eval()
    device = next(network.parameters()).device
    draw = crops(task, seed=AUDIT_SEED)
    counts = {kind: torch.zeros(len(stages) + 1) for kind in TOKEN_KINDS}
    for case in [case for case in cases for _ in range(AUDIT_CROPS)]:
        crop = draw({"image": case.image, "label": case.label})[0]
        exits = network.exit_stages(crop["image"][None].to(device)).cpu()
        for kind, weight in token_kinds(crop["label"][None], task.patch).items():
            counts[kind] += torch.bincount(exits.flatten(), weight.float().flatten(), len(counts[kind]))
    return {f"left_{kind}": (count / count.sum().clamp(min=1e-9)).tolist() for kind, count in counts.items()}


def token_kinds(labels: Tensor, patch: Sequence[int]) -> dict[str, Tensor]:
    """Tell tokens apart by the labels (B, 1, *size) they hold: masks (B, *grid), and the share of foreground voxels."""
    grid = [size // edge for size, edge in zip(labels.shape[2:], patch)]
    held = token_labels(labels, grid)
    kinds = (held.mixed, held.foreground, ~held.foreground, held.inside)
    return {kind: one.unflatten(1, grid) for kind, one in zip(TOKEN_KINDS, kinds)}
