"""Maps where a network looks: the stage at which each part of a whole image leaves."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.inferers import sliding_window_inference
from torch import Tensor

from scd_plugin.networks.family import SCDNetwork

__all__ = ["keep_map"]


@torch.no_grad()
def keep_map(network: SCDNetwork, image: Tensor, *, roi_size: Sequence[int], overlap: float = 0.5) -> Tensor:
    """Stage at which every voxel's token leaves, averaged over the windows that see it.

    Args:
        network: in evaluation mode, for a stable answer.
        image: (in_channels, *size), preprocessed as for training, any size.
        roi_size: the network's `img_size`.
        overlap: share by which neighbouring windows overlap.

    Returns:
        (*size), float32, from 0 (left at the first stage) to the number of stages (stayed to the end).
    """

    def stages(window: Tensor) -> Tensor:
        return F.interpolate(network.exit_stages(window).unsqueeze(1).float(), size=window.shape[2:], mode="nearest")

    merged: Tensor = sliding_window_inference(image.unsqueeze(0), tuple(roi_size), 1, stages, overlap=overlap)
    return merged[0, 0]
