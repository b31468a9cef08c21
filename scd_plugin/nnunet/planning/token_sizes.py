"""Derives crop and token size from nnU-Net's plans. Pure functions; nnunetv2 is not imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from scd_plugin.networks.scd_unetr import MAX_POOLED_DEPTH
from scd_plugin.ops.grid import per_axis, total_stride

__all__ = ["MAX_TOKENS", "MIN_TOKENS", "PATCH_TARGET", "token_depth", "token_geometry"]

# The published token patch; where token counts allow it, it is taken.
PATCH_TARGET = 8
# The smallest edge to which a token patch may shrink when a crop is small.
PATCH_MIN = 4
# Attention costs as much as the rest of a block at 6 D tokens (4608 for the base size) and grows with the square
# beyond. 10240 admits the largest crops of nnU-Net's default plans at the published token patch: 8000 tokens for
# 160 x 160 x 160, and 9600 for an anisotropic 80 x 192 x 160, whose tokens are 4 x 8 x 8.
MAX_TOKENS = 10240
# Below 512 tokens pruning has nothing to save (the decoder is nearly all of the cost), and a keep ratio of 0.25 would
# leave a handful of tokens after three stages.
MIN_TOKENS = 512


def token_depth(patch_size: Sequence[int], strides: Sequence[Sequence[int]]) -> int:
    """Number of nnU-Net's pooling steps that one token patch spans.

    The deepest cumulative stride with no edge above 8; one step deeper while there would be more than `MAX_TOKENS`
    tokens, one step less while there would be fewer than `MIN_TOKENS`, as long as the longest edge stays at least 4.
    `strides` go from full resolution downwards, without the leading all-ones entry.
    """
    edges = [total_stride(strides[:depth], len(patch_size)) for depth in range(len(strides) + 1)]
    tokens = [prod(size // edge for size, edge in zip(patch_size, patch)) for patch in edges]
    depth = max([1] + [d for d in range(1, len(edges)) if max(edges[d]) <= PATCH_TARGET])
    while tokens[depth] > MAX_TOKENS and depth < len(strides):
        depth += 1
    while tokens[depth] < MIN_TOKENS and depth > 1 and max(edges[depth - 1]) >= PATCH_MIN:
        if tokens[depth - 1] > MAX_TOKENS:
            break
        depth -= 1
    return depth


def token_geometry(configuration: Mapping[str, Any], *, patch_size: int | None = None) -> dict[str, Any]:
    """Crop and token size of a network for one configuration of nnU-Net's plans, as arguments of `build_network`.

    Token patches, decoder steps and the pooled bottleneck follow nnU-Net's own pooling kernels, axis by axis. So every
    patch size that nnU-Net plans divides, anisotropic and 2-D ones too, and each decoder level has the resolution of
    one of nnU-Net's stages. With `patch_size` it is the edge of a token on every axis.

    Raises:
        ValueError: if the configuration has no pooling strides, none that pool, too few to stay within `MAX_TOKENS`, or
            strides that do not divide its patch size. With `patch_size` never: the network itself checks whether it
            divides.
    """
    crop = [int(size) for size in configuration["patch_size"]]
    if patch_size is not None:
        return {"img_size": tuple(crop), "patch_size": (patch_size,) * len(crop)}
    strides = _pooling_steps(configuration, len(crop))
    depth = token_depth(crop, strides)
    edges = total_stride(strides[:depth], len(crop))
    for axis, (size, edge) in enumerate(zip(crop, edges)):
        if size % edge:
            below = size // edge * edge
            msg = (
                f"patch_size {crop} in the plans does not fit their strides: axis {axis} with {size} voxels is not a "
                f"multiple of {edge}. Change it to {below or edge} or {below + edge}, or plan again with "
                "nnUNetv2_plan_experiment"
            )
            raise ValueError(msg)
    tokens = prod(size // edge for size, edge in zip(crop, edges))
    if tokens > MAX_TOKENS:
        msg = (
            f"patch_size {crop} in the plans makes {tokens} tokens of {edges} voxels, more than the {MAX_TOKENS} "
            "allowed, and the plans pool no deeper; plan a smaller patch or more pooling with nnUNetv2_plan_experiment"
        )
        raise ValueError(msg)
    # below the tokens nnU-Net's step where it has one; none below tokens of more than three steps, see `SCDUNETR`
    below_tokens = strides[depth] if depth < len(strides) else (2,) * len(crop)
    pool = below_tokens if depth <= MAX_POOLED_DEPTH else None
    return {"img_size": tuple(crop), "patch_size": edges, "strides": strides[:depth], "pool_stride": pool}


def _pooling_steps(configuration: Mapping[str, Any], spatial_dims: int) -> list[tuple[int, ...]]:
    """nnU-Net's pooling strides, full resolution first, without steps that pool nothing."""
    architecture = configuration.get("architecture", {}).get("arch_kwargs", {})
    # plans written before nnU-Net 2.3 hold them one level up
    strides = architecture.get("strides", configuration.get("pool_op_kernel_sizes"))
    if not strides:
        msg = (
            "the plans hold no pooling strides (architecture.arch_kwargs.strides), from which token sizes follow; "
            "plan with nnU-Net's default or ResEnc planners"
        )
        raise ValueError(msg)
    steps = [per_axis(stride, spatial_dims, name="each of the plans' strides") for stride in strides]
    steps = [step for step in steps if max(step) > 1]
    if not steps:
        msg = (
            f"the plans pool nowhere (strides {strides}), so no token could be larger than a voxel: images so small "
            "need nnU-Net's default trainer, or plans with a finer -overwrite_target_spacing"
        )
        raise ValueError(msg)
    return steps
