"""Training batches as a function of the task, the seed and the step alone: the same for all networks."""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

import numpy as np
import torch
from monai.data import set_track_meta
from monai.transforms import (
    Compose,
    RandAdjustContrastd,
    RandAffined,
    RandCropByPosNegLabeld,
    RandFlipd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandScaleIntensityd,
    RandShiftIntensityd,
    SpatialPadd,
)
from tasks import Case, Task
from torch import Tensor

BOTH = ("image", "label")


def crops(task: Task, *, seed: int) -> Compose:
    """Draw a crop, every second one around foreground, unchanged but for zeros around a case that is smaller."""
    return Compose(_crop(task)).set_random_state(seed)


def _crop(task: Task) -> list:
    return [
        SpatialPadd(BOTH, task.crop),
        RandCropByPosNegLabeld(BOTH, label_key="label", spatial_size=task.crop, pos=1, neg=1, num_samples=1),
    ]


def _augmented(task: Task) -> Compose:
    return Compose(
        [
            *_crop(task),
            RandAffined(
                BOTH,
                prob=0.5,
                rotate_range=task.rotate,
                translate_range=task.translate,
                scale_range=[0.15 if shift else 0.0 for shift in task.translate],
                mode=("bilinear", "nearest"),
                padding_mode="zeros",
            ),
            *[RandFlipd(BOTH, prob=0.5, spatial_axis=axis) for axis in task.flips],
            RandScaleIntensityd("image", factors=0.25, prob=0.5),
            RandShiftIntensityd("image", offsets=0.25, prob=0.5),
            RandAdjustContrastd("image", prob=0.2, gamma=(0.7, 1.5), retain_stats=True),
            RandGaussianNoised("image", prob=0.2, std=0.1),
            RandGaussianSmoothd("image", (0.3, 0.8), (0.3, 0.8), (0.3, 0.8), prob=0.1),
        ]
    )


class Batches:
    """Augmented crops of the training cases, in an order that goes through all of them before any comes again."""

    def __init__(self, cases: Sequence[Case], task: Task, seed: int) -> None:
        set_track_meta(False)
        self.cases = cases
        self.size = task.batch
        self.key = (crc32(task.name.encode()), seed)
        self.draw = _augmented(task)

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Draw the batch of a step: images and labels, both (B, 1, *crop)."""
        samples = [self._sample(step * self.size + i) for i in range(self.size)]
        return torch.stack([s["image"] for s in samples]), torch.stack([s["label"] for s in samples])

    def _sample(self, index: int) -> dict[str, Tensor]:
        epoch, place = divmod(index, len(self.cases))
        order = np.random.default_rng((*self.key, 0, epoch)).permutation(len(self.cases))
        case = self.cases[order[place]]
        self.draw.set_random_state(int(np.random.SeedSequence((*self.key, 1, index)).generate_state(1)[0]))
        return self.draw({"image": case.image, "label": case.label})[0]
