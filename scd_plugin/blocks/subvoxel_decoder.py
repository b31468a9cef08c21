"""A decoder that never convolves at full resolution: the voxels of a cell are channels at level 1."""

from collections.abc import Sequence
from math import prod
from typing import Any

from torch import Tensor, nn

from scd_plugin.blocks.branch_decoder import BranchDecoder, level_widths
from scd_plugin.blocks.decoders import OutBlock
from scd_plugin.ops.pixel_shuffle import pixel_shuffle, pixel_unshuffle

__all__ = ["PixelUnshuffle", "SubvoxelDecoder"]


class PixelUnshuffle(nn.Module):
    """Folds the voxels of each cell into channels; see `ops.pixel_shuffle`."""

    def __init__(self, factors: Sequence[int]) -> None:
        super().__init__()
        self.factors = [int(factor) for factor in factors]

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, *size) -> (B, C * prod(factors), *size / factors)."""
        return pixel_unshuffle(image, self.factors)


class SubvoxelDecoder(BranchDecoder):
    """One branch from the tokens to level 1, where the image joins as sub-voxels and the classes leave as such.

    Convolutions of few channels at full resolution leave a GPU's matrix units idle, and on any device they move most
    of the memory. Here there are none. Level 1 is the resolution after the first of `strides`; one of its cells holds
    `prod(strides[0])` voxels, 8 for a stride of 2. The image joins there with each cell's voxels as channels (pixel
    unshuffle: no weight, and nothing is lost), two convolutions of `4 * feature_size` channels see both, and a class
    head of one voxel gives every cell a logit for each class and voxel, which a pixel shuffle puts into their places.
    An axis with stride 1 is not folded. Below, level l has `feature_size * 2**l` channels, as in `UNETRDecoder`.

    With a stride of 2 and `feature_size` a multiple of 4 all channels are multiples of 8, which matrix units ask for.

    Args: as in `UNETRDecoder`, without `pool_stride` and `conv_block`.

    Raises:
        ValueError: if the first of `strides` is 1 on all axes.

    Source: pixel shuffle, arXiv 1609.05158, behind the branch of `LightDecoder`.
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
        spatial_dims, voxels = len(strides[0]), prod(strides[0])
        if voxels == 1:
            # nothing would be folded, and the widest level convolve at full resolution
            msg = (
                f"the first of strides must be 2 or more on some axis for decoder subvoxel; got {tuple(strides[0])}. "
                "Leave out steps of 1 on all axes"
            )
            raise ValueError(msg)
        joined = 2 * level_widths(feature_size, strides)[1]
        super().__init__(
            PixelUnshuffle(strides[0]),
            folded=in_channels * voxels,
            joined=joined,
            hidden_size=hidden_size,
            strides=strides,
            feature_size=feature_size,
            norm_name=norm_name,
            res_block=res_block,
        )
        self.factors = [int(factor) for factor in strides[0]]
        self.out = OutBlock(spatial_dims, joined, out_channels * voxels)
        self.add_heads(spatial_dims, out_channels, deep_supervision=deep_supervision)

    def forward(self, image: Tensor, taps: list[Tensor]) -> Tensor | list[Tensor]:
        """Like `UNETRDecoder.forward`; of the token maps (B, D, *grid) only the last is looked at."""
        maps = self.climb(image, taps[-1])
        return self.with_coarse(pixel_shuffle(self.out(maps[-1]), self.factors), maps)
