"""nnU-Net's U-Nets as its planners plan them for a crop: topology by nnU-Net's own function, constants by default.

The crop is given here, where a planner shrinks it until the network fits its memory target.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["unet_architecture"]

# of nnU-Net's default planner and of ResEnc-L (2.8.1); tests/bench/test_unets.py holds both to the planners
BASE_FEATURES = 32
MAX_FEATURES = 320
MIN_EDGE = 4
ANY_NUMBER_OF_POOLINGS = 999999
PLAIN_CONVOLUTIONS, PLAIN_DECODER = 2, 2
RESIDUAL_BLOCKS, RESIDUAL_DECODER = (1, 3, 4, 6), 1


def unet_architecture(
    crop: Sequence[int], spacing: Sequence[float], *, residual: bool
) -> tuple[str, dict[str, Any], tuple[str, ...]]:
    """Class name, arguments, and which of them are names to import, as in nnU-Net's plans.

    Args:
        crop: voxels per axis, three.
        spacing: voxel edges, three.
        residual: ResEnc-L instead of the default U-Net.

    Raises:
        ValueError: if nnU-Net would pad this crop; the message names the crop that it would take.
    """
    from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props

    _, strides, kernels, padded, _ = get_pool_and_conv_props(spacing, crop, MIN_EDGE, ANY_NUMBER_OF_POOLINGS)
    if tuple(padded) != tuple(crop):
        given, taken = ("x".join(str(int(size)) for size in sizes) for sizes in (crop, padded))
        msg = f"nnU-Net's U-Net for a crop of {given} pools it down to an odd size; nnU-Net would take {taken}"
        raise ValueError(msg)
    stages = len(strides)
    if residual:
        name = "ResidualEncoderUNet"
        blocks: dict[str, Any] = {
            "n_blocks_per_stage": (RESIDUAL_BLOCKS + RESIDUAL_BLOCKS[-1:] * stages)[:stages],
            "n_conv_per_stage_decoder": (RESIDUAL_DECODER,) * (stages - 1),
        }
    else:
        name = "PlainConvUNet"
        blocks = {
            "n_conv_per_stage": (PLAIN_CONVOLUTIONS,) * stages,
            "n_conv_per_stage_decoder": (PLAIN_DECODER,) * (stages - 1),
        }
    arguments = {
        "n_stages": stages,
        "features_per_stage": tuple(min(MAX_FEATURES, BASE_FEATURES * 2**stage) for stage in range(stages)),
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": kernels,
        "strides": strides,
        **blocks,
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    to_import = ("conv_op", "norm_op", "dropout_op", "nonlin")
    return f"dynamic_network_architectures.architectures.unet.{name}", arguments, to_import
