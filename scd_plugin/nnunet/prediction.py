"""An image that can't be segmented must be named as such, and not become an empty label map in silence.

nnU-Net 2.8.1 looks for NaN and for missing channels when a data set is planned, not when it predicts. Normalisation
spreads a single NaN or infinite voxel over the whole image, and the label map of NaN logits is background everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from scd_plugin.networks import SCDUNETR, SCDPrimus
from scd_plugin.nnunet.checkpoint import unwrapped

__all__ = ["non_finite_channels", "predict_logits_from_preprocessed_data"]


def non_finite_channels(data: Tensor) -> list[int]:
    """Channels of (C, D, H, W) that hold NaN or infinite voxels."""
    return [channel for channel, image in enumerate(data) if not torch.isfinite(image).all()]


def predict_logits_from_preprocessed_data(nnunets_own: Callable[..., Tensor], predictor: Any, data: Tensor) -> Tensor:
    """Called in place of nnU-Net's method of this name; says so where the image can't be segmented.

    Args:
        nnunets_own: nnU-Net's method.
        predictor: an `nnUNetPredictor`.
        data: (C, D, H, W), one preprocessed case.

    Returns:
        (classes, D, H, W) logits, as nnU-Net gives them. After voxels that are not finite the other cases go on.

    Raises:
        ValueError: if the image has not the channels that the network takes.
    """
    network = unwrapped(predictor.network)
    if isinstance(network, (SCDUNETR, SCDPrimus)):
        if len(data) != (channels := network.image_shape[0]):
            msg = (
                f"image must have as many channels as the network takes, {channels}; got {len(data)}. Look for a case "
                "with a file missing or too many among its NAME_0000, NAME_0001, ..."
            )
            raise ValueError(msg)
        if bad := non_finite_channels(data):
            print(  # noqa: T201
                f"WARNING: channels {bad} of this case hold NaN or infinite voxels: its label map means nothing. "
                "Replace these voxels in the image and predict it again"
            )
    return nnunets_own(predictor, data)
