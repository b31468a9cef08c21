"""Networks of other libraries, built as those build them, and ours as the paper measured them.

Imports wait until a network is built.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from scd_plugin.bench.bench_settings import crop_text

if TYPE_CHECKING:
    from torch import nn

__all__ = ["monai", "plain", "primus", "unet"]


def monai(name: str, *, img_size: Sequence[int], **arguments: Any) -> nn.Module:
    """A network of MONAI's by its name; SwinUNETR is as wide as its published BTCV and brain tumour models."""
    from monai.networks import nets

    # what else each of them is built with; others know neither a size of image nor of features
    given: dict[str, dict[str, Any]] = {"UNETR": {"img_size": img_size}, "SwinUNETR": {"feature_size": 48}}
    built: nn.Module = getattr(nets, name)(**{**given.get(name, {}), **arguments})
    return built


def plain(**arguments: Any) -> nn.Module:
    """A network of ours whose attention is two matrix products and a softmax, as it was before fused attention."""
    from scd_plugin.networks.builder import build_network

    network = build_network(**arguments)
    for module in network.modules():
        # of timm and of MONAI
        for switch in {"fused_attn", "use_flash_attention"} & set(vars(module)):
            setattr(module, switch, False)
    return network


def primus(name: str, *, in_channels: int, out_channels: int, img_size: Sequence[int]) -> nn.Module:
    """A Primus by its class in dynamic-network-architectures, with the settings of nnU-Net's trainer for it."""
    from dynamic_network_architectures.architectures import primus as library

    settings = {"drop_path_rate": 0.2, "scale_attn_inner": True, "init_values": 0.1}
    sizes = {"patch_embed_size": (8, 8, 8), "input_shape": tuple(img_size)}
    built: nn.Module = getattr(library, name)(in_channels, out_channels, **sizes, **settings)
    return built


def unet(
    *,
    in_channels: int,
    out_channels: int,
    img_size: Sequence[int],
    residual: bool,
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    deep_supervision: bool = False,
) -> nn.Module:
    """nnU-Net's own U-Net, or ResEnc-L, as its planner (2.8.1) plans it for a crop and a spacing.

    The crop is given, where a planner shrinks it until the network fits its memory target.

    Raises:
        ValueError: if nnU-Net would pad this crop; the message names the crop that it would take.
    """
    from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
    from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props
    from torch import nn

    # no axis is pooled below 4 voxels, and none has a limit of its own
    _, strides, kernels, padded, _ = get_pool_and_conv_props(spacing, img_size, 4, 999999)
    if tuple(padded) != tuple(img_size):
        taken = crop_text([int(size) for size in padded])
        msg = f"nnU-Net's U-Net for a crop of {crop_text(img_size)} pools it down to an odd size; it would take {taken}"
        raise ValueError(msg)
    stages = len(strides)
    make: Any = ResidualEncoderUNet if residual else PlainConvUNet
    blocks = {"n_blocks_per_stage": ((1, 3, 4) + (6,) * stages)[:stages]} if residual else {"n_conv_per_stage": 2}
    built: nn.Module = make(
        input_channels=in_channels,
        num_classes=out_channels,
        n_stages=stages,
        features_per_stage=[min(320, 32 * 2**stage) for stage in range(stages)],
        conv_op=nn.Conv3d,
        kernel_sizes=kernels,
        strides=strides,
        n_conv_per_stage_decoder=1 if residual else 2,
        conv_bias=True,
        norm_op=nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=deep_supervision,
        **blocks,
    )
    return built.apply(make.initialize)
