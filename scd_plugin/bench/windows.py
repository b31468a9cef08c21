"""A volume, segmented window by window: of a whole image, or of noise."""

from __future__ import annotations

import torch
from monai.inferers import SlidingWindowInferer
from monai.transforms import AsDiscrete
from torch import Tensor, nn

from scd_plugin.bench.settings import Settings
from scd_plugin.bench.steps import Amp, Step, for_inference

__all__ = ["Windows", "volume_step"]


class Windows:
    """Called, it makes the label map of a volume.

    Windows of the crop overlap by `overlap` and are blended by a Gaussian, as nnU-Net's and MONAI's predictors do;
    there is no mirroring. A volume that is smaller than a window is padded.

    Args:
        network: in evaluation mode.
        settings: crop, overlap, windows at a time and device.
        amp: context of the forward passes.
    """

    def __init__(self, network: nn.Module, settings: Settings, amp: Amp) -> None:
        self.network = network
        self.device = settings.device
        self.amp = amp
        self.infer = SlidingWindowInferer(
            settings.crop, sw_batch_size=settings.batch, overlap=settings.overlap, mode="gaussian"
        )

    def __call__(self, volume: Tensor) -> Tensor:
        """Label map (1, D, H, W), on the CPU, of a volume (in_channels, D, H, W), wherever that is."""
        with torch.inference_mode(), self.amp():
            logits = self.infer(volume[None].to(self.device), self.network)
            label: Tensor = AsDiscrete(argmax=True)(logits[0]).cpu()
        return label


def volume_step(network: nn.Module, settings: Settings, amp: Amp) -> Step:
    """Segments noise of the size of `settings.volume`: what the network's stage of a whole case takes.

    Args:
        network: put in evaluation mode, without deep supervision.
        settings: with a volume.
        amp: see `Windows`.

    Raises:
        ValueError: if the settings have no volume.
    """
    if settings.volume is None:
        msg = "volume must be three sizes in voxels; got None"
        raise ValueError(msg)
    for_inference(network)
    segment = Windows(network, settings, amp)
    generator = torch.Generator().manual_seed(0)
    volume = torch.randn(settings.in_channels, *settings.volume, generator=generator)

    def step() -> None:
        segment(volume)

    return step
