"""A light decoder: from one token map to full resolution, with a single convolution at full resolution."""

from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.blocks import Convolution, UnetOutBlock, UnetrBasicBlock
from monai.networks.blocks.dynunet_block import UnetBasicBlock, UnetResBlock, get_conv_layer
from torch import Tensor, nn

from scd_plugin.blocks.decoders import OutBlock, drop_unused_heads, unfolding_layer
from scd_plugin.ops.convolution import channels_last, is_tracing, joined_convolution, takes_short_ways

__all__ = ["LightDecoder"]

# the activation of MONAI's UNETR blocks
LEAKY_RELU = ("leakyrelu", {"inplace": True, "negative_slope": 0.01})


class LightDecoder(nn.Module):
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
        super().__init__()
        spatial_dims = len(strides[0])
        steps = [tuple(stride) for stride in strides]
        widths = [feature_size * 2**level for level in range(len(steps) + 1)]
        block = UnetResBlock if res_block else UnetBasicBlock
        self.fold = nn.Sequential(
            get_conv_layer(
                spatial_dims, in_channels, widths[1], kernel_size=steps[0], stride=steps[0], bias=True, conv_only=True
            ),
            UnetrBasicBlock(spatial_dims, widths[1], widths[1], 3, 1, norm_name, res_block=res_block),
        )
        ups: list[nn.Module] = []
        blocks: list[nn.Module] = []
        inputs = hidden_size
        # with a single step the tokens stand at level 1 already, and a step of one voxel only changes their channels
        for level in reversed(range(1, max(2, len(steps)))):
            stride = steps[level] if level < len(steps) else (1,) * spatial_dims
            ups.append(unfolding_layer(spatial_dims, inputs, widths[level], stride))
            joined = 2 if level == 1 else 1
            blocks.append(block(spatial_dims, joined * widths[level], widths[level], 3, 1, norm_name))
            inputs = widths[level]
        self.ups = nn.ModuleList(ups)
        self.blocks = nn.ModuleList(blocks)
        self.unfold = unfolding_layer(spatial_dims, inputs, feature_size, steps[0], bias=True)
        inputs = feature_size + in_channels
        self.boundaries = Convolution(
            spatial_dims, inputs, feature_size, kernel_size=3, norm=norm_name, act=LEAKY_RELU, adn_ordering="NA"
        )
        self.out = OutBlock(spatial_dims, feature_size, out_channels)
        coarse = widths[len(steps) - 1 : 0 : -1] if deep_supervision else []
        self.heads = nn.ModuleList(UnetOutBlock(spatial_dims, width, out_channels) for width in coarse)
        self.deep_supervision = deep_supervision
        self.register_load_state_dict_pre_hook(drop_unused_heads)  # type: ignore[no-untyped-call]

    def forward(self, image: Tensor, taps: list[Tensor]) -> Tensor | list[Tensor]:
        """Like `UNETRDecoder.forward`; of the token maps (B, D, *grid) only the last is looked at."""
        folded = self.fold(image)
        x = taps[-1]
        coarse: list[Tensor] = []
        last = len(self.ups) - 1
        for i, (up, block) in enumerate(zip(self.ups, self.blocks)):
            x = up(x)
            if i == last:
                x = torch.cat((x, folded), dim=1)
            x = block(x)
            coarse.append(x)
        unfolded, drawn = self._draw_boundaries(x, image)
        logits = self.out(drawn, unfolded)
        if not self.deep_supervision:
            return logits
        outputs = [logits]
        for i, head in enumerate(self.heads):
            outputs.insert(1, head(coarse[i]))
        return outputs

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
