"""UNETR decoder that follows any sequence of strides per axis, put together from MONAI's UNETR blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from monai.networks.blocks import UnetOutBlock
from monai.networks.blocks.dynunet_block import UnetBasicBlock, UnetResBlock, get_conv_layer
from monai.networks.blocks.unetr_block import UnetrBasicBlock, UnetrUpBlock
from monai.networks.layers import Pad, Pool
from torch import Tensor, nn

from scd_plugin.ops.convolution import pointwise_convolution, takes_short_ways

__all__ = ["OutBlock", "UNETRDecoder", "drop_unused_heads", "num_taps", "unfolding_layer"]


def num_taps(strides: Sequence[Sequence[int]], pool_stride: Sequence[int] | None) -> int:
    """Number of token maps that a `UNETRDecoder` with these strides takes."""
    return len(strides) + (pool_stride is not None)


class UNETRDecoder(nn.Module):
    """Dense decoder of UNETR: token maps are upsampled to every resolution and merged from coarse to fine.

    Level l is the resolution after the first l strides; it has `feature_size * 2**l` channels. Tokens stand at level
    n, the number of strides. Level 0 takes the image, levels 1 to n - 1 take tokens upsampled by transposed
    convolutions. For token patch 16 (n = 4) this is MONAI's UNETR decoder. With `pool_stride`, level n itself is a
    skip connection and the bottleneck below it is the average-pooled token map: for token patch 8 this is the
    decoder of the published SCD settings. Odd token grids work: what upsampling overshoots is cropped.

    Args:
        in_channels: image channels.
        out_channels: output channels (classes).
        hidden_size: D of the token maps.
        strides: per level and axis, finest first, for example `[(2, 2, 2)] * 3`; see `ops.grid.stage_strides`.
        pool_stride: stride per axis of the pooled bottleneck, or None for no such level.
        feature_size: channels at full resolution.
        norm_name: normalisation, as in MONAI.
        conv_block: convolutions between the upsampling steps of the token maps.
        res_block: residual convolution blocks.
        deep_supervision: also predict at every coarser level with a skip connection. While the attribute of the same
            name is true, `forward` returns a list, full resolution first. A state dict with such heads also loads
            into a decoder without them.

    Source: UNETR, arXiv 2103.10504; arXiv 2303.06522 for token patch 8.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        hidden_size: int,
        strides: Sequence[Sequence[int]],
        pool_stride: Sequence[int] | None = None,
        feature_size: int = 16,
        norm_name: tuple[str, dict[str, Any]] | str = "instance",
        conv_block: bool = True,
        res_block: bool = True,
        deep_supervision: bool = False,
    ) -> None:
        super().__init__()
        spatial_dims = len(strides[0])
        levels = [tuple(stride) for stride in strides]
        widths = [feature_size * 2**level for level in range(len(levels) + 1)]

        def basic(inputs: int, outputs: int) -> nn.Module:
            return UnetrBasicBlock(spatial_dims, inputs, outputs, 3, 1, norm_name, res_block=res_block)

        between = partial(UnetResBlock if res_block else UnetBasicBlock, kernel_size=3, stride=1, norm_name=norm_name)
        skips = [basic(in_channels, feature_size)]
        for level in range(1, len(levels)):
            steps = levels[level:][::-1]
            skips.append(_upsampled_tokens(hidden_size, widths[level], steps, between if conv_block else None))
        if pool_stride is not None:
            skips.append(basic(hidden_size, widths[len(levels)]))
            levels.append(tuple(pool_stride))
        self.pool = _pool(spatial_dims, pool_stride)
        self.skips = nn.ModuleList(skips)
        channels = [hidden_size] + [widths[level] for level in reversed(range(len(levels)))]
        self.ups = nn.ModuleList(
            _UpWithSkip(UnetrUpBlock(spatial_dims, channels[i], channels[i + 1], 3, stride, norm_name, res_block))
            for i, stride in enumerate(reversed(levels))
        )
        self.out = OutBlock(spatial_dims, feature_size, out_channels)
        heads = [UnetOutBlock(spatial_dims, width, out_channels) for width in channels[1:-1]]
        self.heads = nn.ModuleList(heads if deep_supervision else [])
        self.deep_supervision = deep_supervision
        self.register_load_state_dict_pre_hook(drop_unused_heads)  # type: ignore[no-untyped-call]

    def forward(self, image: Tensor, taps: list[Tensor]) -> Tensor | list[Tensor]:
        """Decode token maps, with the image at full resolution.

        Args:
            image: (B, in_channels, *img_size).
            taps: `num_taps(...)` token maps (B, D, *grid), from the encoder's early to its last depth; the first
                meets the finest level. After token completion they are one and the same.

        Returns:
            (B, out_channels, *img_size), or a list of such per level under deep supervision.
        """
        skips: list[Tensor] = []
        for i, skip in enumerate(self.skips):
            skips.append(skip(image if i == 0 else taps[i - 1]))
        x = taps[-1]
        if x.device.type == "cpu" and (x.dtype == torch.bfloat16 or x.dtype == torch.float16):
            # PyTorch's 3-D pooling knows no half precision on a CPU
            x = self.pool(x.float()).to(x.dtype)
        else:
            x = self.pool(x)
        coarse: list[Tensor] = []
        for up in self.ups:
            x = up(x, skips.pop())
            coarse.append(x)
        logits = self.out(x)
        if not self.deep_supervision:
            return logits
        outputs = [logits]
        for i, head in enumerate(self.heads):
            outputs.insert(1, head(coarse[i]))
        return outputs


class _UpWithSkip(nn.Module):
    """MONAI's `UnetrUpBlock`, which crops the upsampled map to the skip connection (odd grids overshoot by one)."""

    def __init__(self, block: UnetrUpBlock) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(B, C_in, coarse), (B, C_out, fine) -> (B, C_out, fine)."""
        x = self.block.transp_conv(x)
        for axis in range(2, skip.ndim):
            x = x.narrow(axis, 0, skip.shape[axis])
        return self.block.conv_block(torch.cat((x, skip), dim=1))


class OutBlock(UnetOutBlock):
    """MONAI's `UnetOutBlock`; at full resolution its convolution takes a CPU three times as long as a product."""

    def forward(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        """(B, C, *size), or two of them, -> (B, out_channels, *size) of their sum."""
        if takes_short_ways(x):
            conv = self.conv.conv
            return pointwise_convolution([x] if added is None else [x, added], conv.weight, conv.bias)
        y: Tensor = self.conv(x if added is None else x + added)
        return y


def unfolding_layer(
    spatial_dims: int, in_channels: int, out_channels: int, stride: tuple[int, ...], *, bias: bool = False
) -> nn.Module:
    """Transposed convolution without overlap: each cell becomes as many voxels as the stride has."""
    return get_conv_layer(
        spatial_dims, in_channels, out_channels, stride, stride, bias=bias, conv_only=True, is_transposed=True
    )


def _upsampled_tokens(
    in_channels: int, out_channels: int, strides: Sequence[tuple[int, ...]], between: Callable[..., nn.Module] | None
) -> nn.Sequential:
    """MONAI's `UnetrPrUpBlock`, which knows one stride for all its steps, with a stride for each step."""
    spatial_dims = len(strides[0])
    layers: list[nn.Module] = []
    for i, stride in enumerate(strides):
        layers.append(unfolding_layer(spatial_dims, in_channels if i == 0 else out_channels, out_channels, stride))
        if i > 0 and between is not None:
            layers.append(between(spatial_dims, out_channels, out_channels))
    return nn.Sequential(*layers)


def _pool(spatial_dims: int, stride: Sequence[int] | None) -> nn.Module:
    """Average pooling (kernel 3, padding 1) on the axes that shrink; nothing without a stride."""
    if stride is None:
        return nn.Identity()
    kernel = tuple(3 if step > 1 else 1 for step in stride)
    # padded apart: PyTorch's pooling refuses grids smaller than its kernel, though its own padding would suffice
    margins = [size // 2 for size in reversed(kernel) for _ in range(2)]
    return nn.Sequential(
        Pad[Pad.CONSTANTPAD, spatial_dims](tuple(margins), 0.0),
        Pool[Pool.AVG, spatial_dims](kernel, stride=tuple(stride)),
    )


def drop_unused_heads(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Leave out deep-supervision heads: they serve training alone, and nnU-Net predicts with a network without them."""
    if len(module.heads) == 0:  # type: ignore[arg-type]
        for key in [key for key in state_dict if key.startswith(f"{prefix}heads.")]:
            del state_dict[key]
