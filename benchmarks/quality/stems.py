"""A convolutional stem in place of the linear patch embedding."""

from __future__ import annotations

from itertools import pairwise

from monai.networks.blocks import Convolution
from torch import nn

from scd_plugin import SCDUNETR
from scd_plugin.ops.grid import stage_strides


def with_stem(network: SCDUNETR) -> SCDUNETR:
    """Let convolutions of 3 voxels with stride 2, whose width doubles, make a network's tokens.

    Source: Xiao et al., Early Convolutions Help Transformers See Better, arXiv 2106.14881.
    """
    embedding = network.encoder.patch_embed
    strides = stage_strides(embedding.kernel_size)
    width = embedding.out_channels
    channels = [embedding.in_channels, *(width // 2**halvings for halvings in reversed(range(len(strides))))]
    norm = ("instance", {"affine": True})
    network.encoder.patch_embed = nn.Sequential(
        *(
            Convolution(len(step), before, after, strides=step, kernel_size=3, norm=norm, act="gelu", adn_ordering="NA")
            for (before, after), step in zip(pairwise(channels), strides)
        ),
        nn.Conv3d(width, width, 1),
    )
    return network
