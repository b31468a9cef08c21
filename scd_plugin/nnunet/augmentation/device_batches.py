"""Batches of crops, augmented on a device by the process that trains."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from torch import Tensor

__all__ = ["CROPPED_TARGET", "DeviceAugmenter", "augmented"]

Batch = dict[str, Any]
CROPPED_TARGET = "cropped_target"
"""Entry of a batch: its labels before augmentation, on the CPU, with -1 outside of a case."""


def augmented(batch: Batch, transform: BasicTransform, device: torch.device) -> Batch:
    """Augment a batch sample by sample, as nnU-Net's loader does.

    Args:
        batch: of a loader without transforms: `data` (B, C, ...), `target` (B, 1 or 2, ...), `keys`.
        transform: made ready for the device by `on_device`.
        device: where it is done, and where the result lies.

    Returns:
        `data` (B, C, ...), `target` as the transform gives it, a tensor (B, ...) or a list of them; the other entries,
        and `CROPPED_TARGET`.

    Source: `nnUNetDataLoader.generate_train_batch` of nnunetv2 2.8.1.
    """
    images, targets = (batch[name].to(device, non_blocking=True) for name in ("data", "target"))
    with torch.no_grad():
        samples = [transform(image=image, segmentation=target) for image, target in zip(images, targets)]
    labels = [sample["segmentation"] for sample in samples]
    several = isinstance(labels[0], list)
    target = [torch.stack(scale) for scale in zip(*labels)] if several else torch.stack(labels)
    data: Tensor = torch.stack([sample["image"] for sample in samples])
    return {**batch, "data": data, "target": target, CROPPED_TARGET: batch["target"]}


class DeviceAugmenter:
    """Iterator over augmented batches of a loader that only crops.

    Args:
        crops: nnU-Net's loader.
        transform: see `augmented`.
        device: see `augmented`.
    """

    def __init__(self, crops: Iterator[Batch], transform: BasicTransform, device: torch.device) -> None:
        self.crops = crops
        # nnU-Net writes a loader's `transform` to debug.json
        self.transform = transform
        self.device = device

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        return augmented(next(self.crops), self.transform, self.device)
