"""A volume, segmented window by window: a whole image, or noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod

import torch
from monai.inferers import SlidingWindowInferer
from monai.transforms import AsDiscrete
from torch import Tensor, nn

from scd_plugin.bench.bench_settings import BenchSettings, option
from scd_plugin.bench.timed_steps import autocast, for_inference

__all__ = ["WindowSettings", "Windows", "num_windows"]


@dataclass(frozen=True, kw_only=True)
class WindowSettings(BenchSettings):
    """Settings of what is covered in windows of the crop.

    Raises:
        ValueError: if windows overlap by more than a part of themselves, or by less than nothing.
    """

    overlap: float = option(
        "Share of a window that the next one covers, where there are several; 0.5 without it.", default=0.5
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.overlap < 1:
            msg = f"overlap must be in [0, 1), a share of the window; got {self.overlap}"
            raise ValueError(msg)


def num_windows(volume: Sequence[int], crop: Sequence[int], overlap: float) -> int:
    """Windows in which MONAI's inferer covers a volume.

    Args:
        volume: voxels per axis; what is smaller than a window is padded to it.
        crop: voxels of a window per axis.
        overlap: share of a window that the next one covers again.
    """
    # the next window begins at least one voxel on
    steps = [max(1, int(edge * (1 - overlap))) for edge in crop]
    return prod(1 + ceil(max(0, size - edge) / step) for size, edge, step in zip(volume, crop, steps))


class Windows:
    """Called, it makes the label map of a volume.

    Windows of the crop are blended by a Gaussian, as nnU-Net's and MONAI's predictors do; there is no mirroring.
    A volume that is smaller than a window is padded.

    Args:
        network: put in evaluation mode, without deep supervision.
        settings: crop, overlap, windows at a time, device and precision.
    """

    def __init__(self, network: nn.Module, settings: WindowSettings) -> None:
        for_inference(network)
        self.network = network
        self.device = settings.device
        self.amp = autocast(settings)
        self.infer = SlidingWindowInferer(
            settings.crop, sw_batch_size=settings.batch, overlap=settings.overlap, mode="gaussian"
        )

    def __call__(self, volume: Tensor) -> Tensor:
        """Label map (1, D, H, W), on the CPU, of a volume (in_channels, D, H, W), wherever that is."""
        with torch.inference_mode(), self.amp():
            logits = self.infer(volume[None].to(self.device), self.network)
            label: Tensor = AsDiscrete(argmax=True)(logits[0]).cpu()
        return label
