"""SCD-UNETR: sparse encoding, token completion, dense decoding in one network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from scd_plugin.blocks import LightDecoder, SubvoxelDecoder, UNETRDecoder
from scd_plugin.blocks.assembly import COMPLETION
from scd_plugin.blocks.decoders import num_taps
from scd_plugin.blocks.memory import MEMORY
from scd_plugin.blocks.pruning import check_sampling
from scd_plugin.networks.arguments import (
    build_completion,
    check_counts,
    check_grid,
    check_option,
    check_rates,
    pruning_plan,
)
from scd_plugin.networks.encoder import SparseViT
from scd_plugin.networks.family import ComposedNetwork
from scd_plugin.ops.grid import per_axis, stage_strides, total_stride

__all__ = ["DECODERS", "MAX_POOLED_DEPTH", "SCDUNETR", "resolved_strides"]

# decoders that go up from one token map, and take the same arguments
_ONE_BRANCH = {"light": LightDecoder, "subvoxel": SubvoxelDecoder}
DECODERS = ("unetr", *_ONE_BRANCH)

# Deepest token patch, in halvings, below which the bottleneck is the pooled token map. Token patch 16 follows UNETR,
# which has no pooled level; token patches 8 and 4 follow the published token patch 8.
MAX_POOLED_DEPTH = 3


class SCDUNETR(ComposedNetwork):
    """UNETR whose vision transformer prunes tokens and whose decoder still sees all of them.

    A drop-in for `monai.networks.nets.UNETR`: the same arguments in the same order, then SCD's own. As in the published
    networks two defaults differ: `qkv_bias` is True (MONAI: False) and the token patch is 8 (MONAI: always 16). With
    `keep_ratio=1` it is the dense twin: a plain ViT with fused attention, no score predictors, no completion, and the
    decoder's taps where MONAI's UNETR takes them.

    Args:
        in_channels: image channels.
        out_channels: output channels (classes).
        img_size: voxels per axis, one int or one per axis; fixed, since positions are learned.
        feature_size: decoder channels at full resolution.
        hidden_size: D, width of the tokens; divisible by `num_heads` and by 4.
        mlp_dim: width of the feed-forward layers.
        num_heads: attention heads.
        proj_type: `"conv"` alone: on patches that do not overlap MONAI's `"perceptron"` is the same linear map.
        norm_name: decoder normalisation, as in MONAI.
        conv_block: convolutions between the decoder's token upsampling steps.
        res_block: residual convolution blocks in the decoder.
        dropout_rate: dropout in the transformer, in [0, 1).
        spatial_dims: 2 or 3.
        qkv_bias: bias in the query, key and value projections.
        save_attn: `False` alone: fused attention never holds the attention matrix.
        num_layers: transformer blocks.
        patch_size: token patch, one int or one per axis; divides `img_size`.
        prune_after: 1-based blocks after which tokens leave, ascending.
        keep_ratio: share of the tokens *kept* at each stage, in (0, 1]; one number or one per stage. A stage that
            keeps all is left out.
        tau: temperature of the soft top-k.
        sampling: `"soft_topk"` (the method), `"topk"` (no noise) or `"random"` (no scores): the paper's controls.
        drop_path_rate: stochastic depth of the last block.
        completion: `"assembly"` (MTA, the method), `"assembly_to_kept"` (cheaper: there tokens attend only to
            those that passed the first stage) or `"mask_token"` (the paper's control).
        completion_hidden_size: D_c, width inside the completion; None for `hidden_size`.
        completion_num_layers: transformer blocks in the completion.
        completion_num_heads: their heads; None for `num_heads`.
        memory: what later blocks see of the tokens that left, as further keys and values of their attention:
            `"none"` (the method), `"tokens"` (each as it was when it left) or `"pooled"` (their means over cells of 2
            tokens per axis, each weighing as many tokens as it stands for). Weights are the same for all three.
        decoder: `"unetr"` (the method's), `"light"`, which has one convolution at full resolution, or `"subvoxel"`,
            which has none.
        strides: steps from the image to the token grid, finest first; None derives them from `patch_size`.
        pool_stride: stride of the pooled bottleneck below the tokens; None for 2 on all axes, up to token patch 8.
            Of the method's decoder alone.
        deep_supervision: coarser outputs too, see `UNETRDecoder`.

    Raises:
        ValueError: for any argument that does not fit, with its name, value and what is allowed.

    Example::

        >>> net = SCDUNETR(in_channels=1, out_channels=14, img_size=96, keep_ratio=0.1)
        >>> net(torch.zeros(1, 1, 96, 96, 96)).shape
        torch.Size([1, 14, 96, 96, 96])

    Source: arXiv 2303.06522. Its K is `keep_count`, its pruning ratio is `1 - keep_ratio`, its D_c is
    `completion_hidden_size`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        img_size: Sequence[int] | int,
        feature_size: int = 16,
        hidden_size: int = 768,
        mlp_dim: int = 3072,
        num_heads: int = 12,
        proj_type: str = "conv",
        norm_name: tuple[str, dict[str, Any]] | str = "instance",
        conv_block: bool = True,
        res_block: bool = True,
        dropout_rate: float = 0.0,
        spatial_dims: int = 3,
        qkv_bias: bool = True,
        save_attn: bool = False,
        *,
        num_layers: int = 12,
        patch_size: Sequence[int] | int = 8,
        prune_after: Sequence[int] = (3, 6, 9),
        keep_ratio: Sequence[float] | float = 0.25,
        tau: float = 1.0,
        sampling: str = "soft_topk",
        drop_path_rate: float = 0.0,
        completion: str = "assembly",
        completion_hidden_size: int | None = None,
        completion_num_layers: int = 1,
        completion_num_heads: int | None = None,
        memory: str = "none",
        decoder: str = "unetr",
        strides: Sequence[Sequence[int]] | None = None,
        pool_stride: Sequence[int] | None = None,
        deep_supervision: bool = False,
    ) -> None:
        # what was asked for, as it was asked for: a bundle records it beside the weights
        arguments = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        check_option("spatial_dims", spatial_dims, (2, 3))
        _check_unetr_options(proj_type, save_attn)
        check_rates(dropout_rate=dropout_rate, drop_path_rate=drop_path_rate)
        transformer = {name: arguments[name] for name in ("hidden_size", "mlp_dim", "num_heads", "num_layers")}
        completing = {name: value for name, value in arguments.items() if name.startswith("completion_")}
        check_counts(in_channels=in_channels, out_channels=out_channels, feature_size=feature_size)
        check_counts(**transformer, **completing)
        check_option("decoder", decoder, DECODERS)
        check_option("completion", completion, COMPLETION)
        check_option("memory", memory, MEMORY)
        check_sampling(sampling, tau)
        size = per_axis(img_size, spatial_dims, name="img_size")
        patch = per_axis(patch_size, spatial_dims, name="patch_size")
        grid = check_grid(size, patch)
        given = (
            None if strides is None else _steps(strides, spatial_dims),
            None if pool_stride is None else per_axis(pool_stride, spatial_dims, name="pool_stride"),
        )
        steps, pool_stride = resolved_strides(patch, *given)
        if (total := total_stride(steps, spatial_dims)) != patch:
            msg = f"strides must multiply to patch_size {patch}; got {steps}, which make {total}"
            raise ValueError(msg)
        stages = pruning_plan(prune_after, keep_ratio, num_layers)
        taps = num_taps(steps, pool_stride) if decoder == "unetr" else 1
        encoder = SparseViT(
            in_channels,
            size,
            patch,
            **transformer,
            prune_after=[block for block, _ in stages],
            keep_ratios=[ratio for _, ratio in stages],
            tap_blocks=() if stages else tuple(num_layers * i // taps + 1 for i in range(1, taps)),
            tau=tau,
            sampling=sampling,
            norm_left=completion != "mask_token",
            memory=memory,
            qkv_bias=qkv_bias,
            dropout_rate=dropout_rate,
            drop_path_rate=drop_path_rate,
        )
        num_sets = len(stages) + 1
        assembly = build_completion(
            completion, grid, num_sets, hidden_size=hidden_size, num_heads=num_heads, qkv_bias=qkv_bias, **completing
        )
        shared = ("hidden_size", "feature_size", "norm_name", "res_block", "deep_supervision")
        common: dict[str, Any] = {"strides": steps, **{name: arguments[name] for name in shared}}
        decoding = (
            UNETRDecoder(in_channels, out_channels, pool_stride=pool_stride, conv_block=conv_block, **common)
            if decoder == "unetr"
            else _ONE_BRANCH[decoder](in_channels, out_channels, **common)
        )
        super().__init__(encoder, assembly, decoding, out_channels=out_channels, num_taps=taps, arguments=arguments)
        levels = taps if decoder == "unetr" else len(steps)
        self.level_strides = steps[: levels - 1]

    def output_scales(self) -> list[list[float]]:
        """Resolutions of the decoder's levels; see `SCDNetwork.output_scales`."""
        spans = (
            total_stride(self.level_strides[:depth], len(self.grid_size))
            for depth in range(len(self.level_strides) + 1)
        )
        return [[1 / voxels for voxels in span] for span in spans]


def resolved_strides(
    patch_size: tuple[int, ...], strides: Sequence[tuple[int, ...]] | None, pool_stride: tuple[int, ...] | None
) -> tuple[list[tuple[int, ...]], tuple[int, ...] | None]:
    """Steps from the image to the tokens, finest first, and the step below; as given (see `SCDUNETR`) or by default."""
    steps = stage_strides(patch_size) if strides is None else list(strides)
    if pool_stride is None and len(steps) <= MAX_POOLED_DEPTH:
        pool_stride = (2,) * len(patch_size)
    return steps, pool_stride


def _steps(strides: Sequence[Sequence[int] | int], spatial_dims: int) -> list[tuple[int, ...]]:
    if not isinstance(strides, Iterable):
        msg = f"strides must be a list of steps, finest first, such as [2, 2, 2]; got {strides!r}"
        raise ValueError(msg)
    return [per_axis(step, spatial_dims, name="each of strides") for step in strides]


def _check_unetr_options(proj_type: str, save_attn: bool) -> None:
    if proj_type != "conv":
        msg = f"proj_type must be 'conv' (without overlap 'perceptron' is the same linear map); got {proj_type!r}"
        raise ValueError(msg)
    if save_attn:
        msg = "save_attn must be False: fused attention never holds the attention matrix; got True"
        raise ValueError(msg)
