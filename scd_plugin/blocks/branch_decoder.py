"""What decoders with one branch have in common: from the last token map up to level 1, where the image joins."""

from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.blocks import UnetOutBlock
from monai.networks.blocks.dynunet_block import UnetBasicBlock, UnetResBlock
from torch import Tensor, nn

from scd_plugin.blocks.decoders import drop_unused_heads, unfolding_layer

__all__ = ["BranchDecoder", "level_widths"]


def level_widths(feature_size: int, strides: Sequence[Sequence[int]]) -> list[int]:
    """Channels at each level, full resolution (level 0) first: `feature_size * 2**level`."""
    return [feature_size * 2**level for level in range(len(strides) + 1)]


class BranchDecoder(nn.Module):
    """One branch of `ups` and `blocks` from the tokens to level 1, the first of `strides`, and heads at its levels.

    A subclass goes on from there to full resolution. It calls `add_heads` when all its other parts are there: heads
    come last, so that parameters have the same order with and without them.

    Args:
        fold: brings the image (B, in_channels, *img_size) to level 1.
        folded: channels that it makes of the image.
        joined: channels at level 1 from where the image has joined.
        hidden_size, strides, feature_size, norm_name, res_block: as in `UNETRDecoder`.
    """

    def __init__(
        self,
        fold: nn.Module,
        *,
        folded: int,
        joined: int,
        hidden_size: int,
        strides: Sequence[Sequence[int]],
        feature_size: int,
        norm_name: tuple[str, dict[str, Any]] | str,
        res_block: bool,
    ) -> None:
        super().__init__()
        spatial_dims = len(strides[0])
        widths = level_widths(feature_size, strides)
        block = UnetResBlock if res_block else UnetBasicBlock
        self.fold = fold
        ups: list[nn.Module] = []
        blocks: list[nn.Module] = []
        outputs = [joined, *widths[2 : len(strides)]]
        inputs = hidden_size
        # with a single step the tokens stand at level 1 already, and a step of one voxel only changes their channels
        for level in reversed(range(1, max(2, len(strides)))):
            stride = tuple(strides[level]) if level < len(strides) else (1,) * spatial_dims
            ups.append(unfolding_layer(spatial_dims, inputs, widths[level], stride))
            with_image = widths[level] + (folded if level == 1 else 0)
            blocks.append(block(spatial_dims, with_image, outputs[level - 1], 3, 1, norm_name))
            inputs = outputs[level - 1]
        self.ups = nn.ModuleList(ups)
        self.blocks = nn.ModuleList(blocks)
        self._head_inputs = outputs[: len(strides) - 1][::-1]

    def add_heads(self, spatial_dims: int, out_channels: int, *, deep_supervision: bool) -> None:
        """Predict at every level of the branch too, if asked for; a single step has no level but the tokens' own."""
        widths = self._head_inputs if deep_supervision else []
        self.heads = nn.ModuleList(UnetOutBlock(spatial_dims, width, out_channels) for width in widths)
        self.deep_supervision = deep_supervision
        self.register_load_state_dict_pre_hook(drop_unused_heads)  # type: ignore[no-untyped-call]

    def climb(self, image: Tensor, tokens: Tensor) -> list[Tensor]:
        """An image and a token map (B, D, *grid) -> maps (B, C, *size) of the branch's levels, the finest last."""
        folded = self.fold(image)
        x = tokens
        maps: list[Tensor] = []
        last = len(self.ups) - 1
        for i, (up, block) in enumerate(zip(self.ups, self.blocks)):
            x = up(x)
            if i == last:
                # under autocast a float32 image would make all of it float32
                x = torch.cat((x, folded.to(x.dtype)), dim=1)
            x = block(x)
            maps.append(x)
        return maps

    def with_coarse(self, logits: Tensor, maps: list[Tensor]) -> Tensor | list[Tensor]:
        """Logits at full resolution, or under deep supervision a list of them and the heads', from fine to coarse."""
        if not self.deep_supervision:
            return logits
        outputs = [logits]
        for i, head in enumerate(self.heads):
            outputs.insert(1, head(maps[i]))
        return outputs
