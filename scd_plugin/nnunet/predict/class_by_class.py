"""Logits to a label map on the image's grid, one class after the other, on a device.

nnU-Net resamples all classes at once, in float32 on the image's grid: 30 GB for 100 classes and 80 million voxels. Here
three volumes of that size are there at a time, whatever the number of classes, so a GPU can hold them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from nnunetv2.preprocessing.resampling.resample_torch import resample_torch_fornnunet, resample_torch_simple
from torch import Tensor

from scd_plugin.nnunet.model.recipe import Array, NnunetRecipe

__all__ = ["can_go_class_by_class", "label_map", "labels_class_by_class"]

_BY_TORCH = (resample_torch_fornnunet, resample_torch_simple)


def labels_class_by_class(
    logits: Tensor, resample: Callable[[Tensor], Tensor], regions_class_order: Sequence[int] | None = None
) -> Tensor:
    """Make labels of logits that are resampled.

    A class that is behind the first one in every voxel, and a region that is in none, is so on the other grid, too, and
    is passed over: the same weights, of which none is negative, are applied to both, and rounding keeps an order.

    Args:
        logits: (classes or regions, *size), anywhere.
        resample: takes the logits of one (1, *size) to those on another grid (1, *new size), on the device of the work;
            each a mean of others with weights that are not negative.
        regions_class_order: label of each region, of which later ones cover those before; None for classes.

    Returns:
        Labels (*new size), int32: the class with the largest logit, the first of equal ones; for regions the last whose
        probability is more than a half, else 0.
    """
    best = resample(logits[:1])[0].float()
    if regions_class_order is not None:
        labels = torch.zeros(best.shape, dtype=torch.int32, device=best.device)
        for region, label in enumerate(regions_class_order):
            if not (logits[region] > 0).any():
                continue
            inside = torch.sigmoid(best if region == 0 else resample(logits[region : region + 1])[0].float()) > 0.5
            labels.masked_fill_(inside, label)
        return labels
    labels = torch.zeros(best.shape, dtype=torch.int32, device=best.device)
    for number in range(1, len(logits)):
        if not (logits[number] > logits[0]).any():
            continue
        values = resample(logits[number : number + 1])[0].float()
        labels.masked_fill_(values > best, number)
        torch.maximum(best, values, out=best)
    return labels


def can_go_class_by_class(recipe: NnunetRecipe) -> bool:
    """Whether PyTorch resamples the logits by the plans, each class by itself."""
    return getattr(recipe.configuration.resampling_fn_probabilities, "func", None) in _BY_TORCH


def label_map(logits: Tensor, recipe: NnunetRecipe, known: dict[str, Any], device: torch.device) -> Array:
    """Make a label map (Z, Y, X), that of `NnunetRecipe.restore`, with the work done on a device.

    Args:
        logits: (classes or regions, *size), on the network's grid.
        recipe: one that `can_go_class_by_class`.
        known: what `NnunetRecipe.preprocess` says of the image.
        device: where classes are resampled and compared; where its memory does not suffice, the CPU takes over.
    """
    spacing = [known["spacing"][axis] for axis in recipe.plans.transpose_forward]
    planned = list(recipe.configuration.spacing)
    shape = known["shape_after_cropping_and_before_resampling"]
    # a flat configuration has no spacing across slices, which stay as they are
    current = planned if len(planned) == len(shape) else [spacing[0], *planned]
    order = recipe.labels.regions_class_order if recipe.labels.has_regions else None

    def made(place: torch.device) -> Tensor:
        def resample(one: Tensor) -> Tensor:
            function: Any = recipe.configuration.resampling_fn_probabilities
            found: Tensor = function(one.to(place), shape, current, spacing, device=place)
            return found

        with torch.inference_mode():
            return labels_class_by_class(logits, resample, order).cpu()

    try:
        labels = made(device)
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        labels = made(torch.device("cpu"))
    return recipe.uncropped(labels.numpy().astype(recipe.label_type), known)
