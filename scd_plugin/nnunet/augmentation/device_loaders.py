"""nnU-Net's loaders of a training, of which that for training only crops, and the process that trains augments."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform

from scd_plugin.nnunet.augmentation.device_batches import DeviceAugmenter
from scd_plugin.nnunet.augmentation.device_transforms import OnCPU, leaves, on_device

__all__ = ["loaders_on_device", "transforms_kept"]


def loaders_on_device(trainer: Any, make: Callable[[], tuple[Any, Any]]) -> tuple[DeviceAugmenter, Any]:
    """Make the loaders of a trainer of nnU-Net's, the first of which augments on the trainer's device.

    Validation has no augmentation, so its loader stays nnU-Net's.

    Args:
        trainer: its log says what was made.
        make: the trainer's `get_dataloaders`, as nnU-Net has it.

    Raises:
        ValueError: if what makes the loaders does not ask the trainer for transforms, once.
    """
    with transforms_kept(trainer) as kept:
        crops, validation = make()
    if len(kept) != 1:
        msg = (
            'scd_augment_on = "device" needs loaders that ask get_training_transforms once; those of '
            f'{type(trainer).__name__} ask {len(kept)} times. Set scd_augment_on to "cpu"'
        )
        raise ValueError(msg)
    if trainer.local_rank:
        # transforms draw in this process now, and PyTorch's generators begin alike in every one
        torch.manual_seed(torch.initial_seed() + trainer.local_rank)
    transform = on_device(kept[0], trainer.device)
    left = sorted({type(leaf.transform).__name__ for leaf in leaves(transform) if isinstance(leaf, OnCPU)})
    rest = f"; on the CPU and back: {', '.join(left)}" if left else ""
    trainer.print_to_log_file(f"augmentation on {trainer.device}, by the process that trains{rest}")
    return DeviceAugmenter(crops, transform, trainer.device), validation


@contextmanager
def transforms_kept(trainer: Any) -> Iterator[list[BasicTransform]]:
    """While a trainer makes its loaders: the training's transforms come into the list, and its loader gets none."""
    kept: list[BasicTransform] = []
    make = trainer.get_training_transforms

    def keep(*args: Any, **kwargs: Any) -> None:
        kept.append(make(*args, **kwargs))

    # between the two nnU-Net has no other place
    trainer.get_training_transforms = keep
    try:
        yield kept
    finally:
        del trainer.get_training_transforms
