"""The transforms on a CUDA device: nothing leaves it, and samples are distributed as those of the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("nnunetv2")

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from scd_plugin.nnunet.augmentation.device_transforms import on_device

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

CUDA = torch.device("cuda", 0)
PATCH = (24, 28, 26)
SCALES = [[1.0] * 3, [0.5] * 3]


def sample() -> dict[str, Tensor]:
    """Two smooth channels with the previous stage's segmentation."""
    axes = torch.meshgrid(*[torch.linspace(-1, 1, size) for size in (36, 40, 38)], indexing="ij")
    distance = sum(axis**2 for axis in axes)
    label = (distance < 0.5).to(torch.int16) + (distance < 0.2).to(torch.int16)
    label[:2] = -1
    return {"image": torch.stack([1 - distance, axes[0] * axes[1]]), "segmentation": torch.stack([label, label])}


def facts(results: list[dict[str, Tensor]]) -> Tensor:
    """Mean and spread of the image, share of each region: mean over the samples."""
    rows = []
    for result in results:
        full = result["segmentation"][0].float()
        rows.append(torch.stack([result["image"][0].mean(), result["image"][0].std(), *full.mean((1, 2, 3))]).cpu())
    return torch.stack(rows).mean(0)


def test_samples_are_distributed_as_on_the_cpu() -> None:
    tree = nnUNetTrainer.get_training_transforms(
        PATCH, (-0.5, 0.5), SCALES, (0, 1, 2), False, [True, False], True, [1, 2], [(1, 2), (2,)], None
    )
    found = []
    for device in (torch.device("cpu"), CUDA):
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002  (nnU-Net draws from it)
        transform = on_device(tree, device)
        results = [transform(**{name: tensor.to(device) for name, tensor in sample().items()}) for _ in range(200)]
        for result in results:
            assert result["image"].shape == (4, *PATCH)
            assert {tensor.device for tensor in (result["image"], *result["segmentation"])} == {device}
            assert torch.isfinite(result["image"]).all()
        found.append(facts(results))
    assert torch.allclose(found[0], found[1], atol=0.03)
