"""A light decoder: from one token map to full resolution, with a single convolution at full resolution."""

from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.blocks import Convolution, UnetrBasicBlock
from monai.networks.blocks.dynunet_block import get_conv_layer
from torch import Tensor, nn

from scd_plugin.blocks.branch_decoder import BranchDecoder, level_widths
from scd_plugin.blocks.decoders import OutBlock, unfolding_layer
from scd_plugin.ops.convolution import channels_last, is_tracing, joined_convolution, takes_short_ways

__all__ = ["LightDecoder"]

# the activation of MONAI's UNETR blocks
LEAKY_RELU = ("leakyrelu", {"inplace": True, "negative_slope": 0.01})


class LightDecoder(BranchDecoder):
    """One branch from the tokens to half resolution, where it meets the image; one convolution draws the boundaries.

    UNETR's decoder gives each resolution a branch of its own from the tokens, and convolves at full resolution, which
    is half of its multiply-accumulates and most of its memory. After token completion these branches all start from
    the same sequence. This decoder has one. The image joins at level 1, the first of `strides`, folded into channels by
    a convolution with that stride, so that no voxel is lost. The last step unfolds each cell's features into
    `feature_size` channels a voxel, by a transposed convolution without overlap, and one 3x3x3 convolution sees them
    together with the image. The class head takes the sum of both: with the convolution alone, all that reaches the head
    goes through its norm and activation, and learning is slow. Level l has `feature_size * 2**l` channels, as in
    `UNETRDecoder`.

    Args: as in `UNETRDecoder`, without `pool_stride` and `conv_block`.

    Source: UNETR, arXiv 2103.10504, cut down. Transposed convolution without overlap: equal to a 1x1 convolution and
    a pixel shuffle, arXiv 1609.05158.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        hidden_size: int,
        strides: Sequence[Sequence[int]],
        feature_size: int = 16,
        norm_name: tuple[str, dict[str, Any]] | str = "instance",
        res_block: bool = True,
        deep_supervision: bool = False,
    ) -> None:
        spatial_dims = len(strides[0])
        step, widths = tuple(strides[0]), level_widths(feature_size, strides)
        fold = nn.Sequential(
            get_conv_layer(
                spatial_dims, in_channels, widths[1], kernel_size=step, stride=step, bias=True, conv_only=True
            ),
            UnetrBasicBlock(spatial_dims, widths[1], widths[1], 3, 1, norm_name, res_block=res_block),
        )
        super().__init__(
            fold,
            folded=widths[1],
            joined=widths[1],
            hidden_size=hidden_size,
            strides=strides,
            feature_size=feature_size,
            norm_name=norm_name,
            res_block=res_block,
        )
        self.unfold = unfolding_layer(spatial_dims, widths[1], feature_size, step, bias=True)
        inputs = feature_size + in_channels
        self.boundaries = Convolution(
            spatial_dims, inputs, feature_size, kernel_size=3, norm=norm_name, act=LEAKY_RELU, adn_ordering="NA"
        )
        self.out = OutBlock(spatial_dims, feature_size, out_channels)
        self.add_heads(spatial_dims, out_channels, deep_supervision=deep_supervision)

    def forward(self, image: Tensor, taps: list[Tensor]) -> Tensor | list[Tensor]:
        """Like `UNETRDecoder.forward`; of the token maps (B, D, *grid) only the last is looked at."""
        maps = self.climb(image, taps[-1])
        unfolded, drawn = self._draw_boundaries(maps[-1], image)
        return self.with_coarse(self.out(drawn, unfolded), maps)

    def _draw_boundaries(self, x: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 2F, *half) and the image -> two maps (B, F, *img_size): x unfolded, and the boundaries drawn on it."""
        unfolded = self.unfold(channels_last(x) if takes_short_ways(x) else x)
        if is_tracing():
            # the ONNX tracer takes no convolution whose weight is a slice
            return unfolded, self.boundaries(torch.cat((unfolded, image), dim=1))
        conv = self.boundaries.conv
        joined = joined_convolution([unfolded, image], conv.weight, conv.bias, list(conv.padding))
        # norms of maps with channels last are slow, and sum a million voxels with less care
        return unfolded, self.boundaries.adn(joined.contiguous())
