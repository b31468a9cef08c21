"""SCD-Primus: nnU-Net's transformer Primus with tokens that leave on the way and come back before the decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from math import prod
from numbers import Integral

import torch
from dynamic_network_architectures.building_blocks.eva import Eva
from timm.layers import RotaryEmbeddingCat
from torch import Tensor, nn

from scd_plugin.blocks import SoftTopKPruning
from scd_plugin.blocks.derived import derive_buffer
from scd_plugin.blocks.primus import decode_octants, primus_decoder, primus_tokenizer
from scd_plugin.blocks.primus_block import PrimusBlock
from scd_plugin.networks.arguments import (
    build_completion,
    check_counts,
    check_grid,
    check_image,
    check_option,
    check_rates,
    pruning_plan,
)
from scd_plugin.networks.encoder import EncodedTokens
from scd_plugin.networks.family import SCDNetwork
from scd_plugin.networks.priors import PRIORS, prior_scores
from scd_plugin.ops import restore_tokens, take_tokens
from scd_plugin.ops.grid import per_axis, total_stride
from scd_plugin.ops.tokens import grid_places

__all__ = ["PRIMUS_SIZES", "SCDPrimus"]

SAMPLING = ("soft_topk", "topk", "random", "prior")
COMPLETION = ("assembly", "assembly_to_kept", "mask_token", "restore")

# Primus's own, alike in its versions: arXiv 2503.01835, `_PRIMUS_CONFIGS` of dynamic-network-architectures 0.4.4
PRIMUS_SIZES = {
    "S": {"hidden_size": 396, "num_layers": 12, "num_heads": 6},
    "B": {"hidden_size": 792, "num_layers": 12, "num_heads": 12},
    "M": {"hidden_size": 864, "num_layers": 16, "num_heads": 12},
    "L": {"hidden_size": 1056, "num_layers": 24, "num_heads": 16},
}


class SCDPrimus(SCDNetwork):
    """Primus that prunes tokens between its blocks and decodes all of them.

    Tokenizer, EVA blocks, rotary positions and patch decoder are those of dynamic-network-architectures, under the
    names they have in its `Primus`. With `keep_ratio=1` the network is Primus: state dicts are interchangeable and the
    logits the same. With less, kept tokens take their rotary positions along, and the completed sequence starts as the
    tokens themselves, each as it was when it left. MTA adds to them as one more block would, before the last LayerNorm
    and scaled as blocks are; what it adds starts at zero.

    Args:
        in_channels: image channels.
        out_channels: output channels (classes).
        img_size: voxels per axis, one int or one per axis; fixed, since positions are learned.
        version: Primus's version: 1 (strided projection to tokens), 2 or 3 (convolutional stems).
        size: `"S"`, `"B"`, `"M"` or `"L"`, Primus's own.
        patch_size: token patch, one int or one per axis, powers of two; divides `img_size`. Primus's own is 8.
        prune_after: 1-based blocks after which tokens leave, ascending; None for one stage, after a sixth of the depth.
        keep_ratio: share of the tokens *kept* at each stage, in (0, 1]; one number or one per stage. A stage that
            keeps all is left out; with 1 the network is Primus.
        tau: temperature of the soft top-k.
        sampling: `"topk"` (no noise in training), `"soft_topk"` (Gumbel noise, as in the paper) or `"random"` (no
            scores); `"prior"` for the scores of `prior` alone, with no score predictor.
        prior: a score that is not learned, see `scd_plugin.networks.priors`. The learned score is added to it and
            starts at zero. None for learned scores alone.
        regions: whether outputs are regions, which may overlap, instead of classes; the prior `"entropy"` asks.
        completion: `"assembly"` (MTA, the method), `"assembly_to_kept"` (cheaper, see `SCDUNETR`), `"mask_token"` (the
            paper's control) or `"restore"`: the tokens as they left and nothing else. With the last and
            `sampling="prior"` there is no parameter that Primus has not.
        completion_hidden_size: D_c, width inside the completion; None for the width of the tokens.
        completion_num_layers: transformer blocks in the completion.
        completion_num_heads: their heads; None for those of the encoder.
        spatial_dims: 2 or 3.
        hidden_size: D in place of the size's; a multiple of 6 times the heads, for rotary positions on three axes.
        num_layers: transformer blocks in place of the size's.
        num_heads: attention heads in place of the size's.
        num_register_tokens: tokens without a place that take part in attention and are never pruned.
        init_values: where LayerScale starts, that of the completion too; None for none.
        scale_attn_inner: LayerNorm inside of attention.
        dropout_rate: dropout in the transformer, in [0, 1).
        drop_path_rate: stochastic depth of the last block. Primus's trainers have 0.2.

    Raises:
        ValueError: for any argument that does not fit, with its name, value and what is allowed.

    Example::

        >>> net = SCDPrimus(in_channels=1, out_channels=3, img_size=96, size="S")
        >>> net(torch.zeros(1, 1, 96, 96, 96)).shape
        torch.Size([1, 3, 96, 96, 96])

    Source: Primus, arXiv 2503.01835; pruning and completion, arXiv 2303.06522.
    """

    grid_idx: Tensor
    mask_token: Tensor

    positions = "eva.pos_embed"
    outputs = ("up_projection.",)
    outputs_called = "decoder"
    new_parts = ("stages.", "completion.")

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        img_size: Sequence[int] | int,
        *,
        version: int = 1,
        size: str = "M",
        patch_size: Sequence[int] | int = 8,
        prune_after: Sequence[int] | None = None,
        keep_ratio: Sequence[float] | float = 0.5,
        tau: float = 1.0,
        sampling: str = "topk",
        prior: str | None = "entropy",
        regions: bool = False,
        completion: str = "assembly",
        completion_hidden_size: int | None = None,
        completion_num_layers: int = 1,
        completion_num_heads: int | None = None,
        spatial_dims: int = 3,
        hidden_size: int | None = None,
        num_layers: int | None = None,
        num_heads: int | None = None,
        num_register_tokens: int = 0,
        init_values: float | None = 0.1,
        scale_attn_inner: bool = True,
        dropout_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        # what was asked for, as it was asked for: a bundle records it beside the weights
        arguments = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        super().__init__()
        self.arguments = arguments
        check_option("spatial_dims", spatial_dims, (2, 3))
        check_rates(dropout_rate=dropout_rate, drop_path_rate=drop_path_rate)
        _check_pruning_options(sampling, prior, completion)
        check_option("size", size, tuple(PRIMUS_SIZES))
        sizes = PRIMUS_SIZES[size]
        width = sizes["hidden_size"] if hidden_size is None else hidden_size
        depth = sizes["num_layers"] if num_layers is None else num_layers
        heads = sizes["num_heads"] if num_heads is None else num_heads
        completing = {name: value for name, value in arguments.items() if name.startswith("completion_")}
        check_counts(in_channels=in_channels, out_channels=out_channels, hidden_size=width, num_layers=depth)
        check_counts(num_heads=heads, **completing)
        _check_sizes(width, heads, num_register_tokens)
        image = per_axis(img_size, spatial_dims, name="img_size")
        patch = per_axis(patch_size, spatial_dims, name="patch_size")
        grid = check_grid(image, patch)
        # a 2-D image is a volume of one slice: the library's parts are three-dimensional
        volume_patch, volume_grid = ((1, *patch), (1, *grid)) if spatial_dims == 2 else (patch, grid)
        # a single stage: tokens that stay pass all the other blocks, which Primus's plain decoder needs
        first_sixth = [max(1, depth // 6)]
        stages = pruning_plan(first_sixth if prune_after is None else prune_after, keep_ratio, depth)

        self.down_projection = primus_tokenizer(version, in_channels, width, volume_patch)
        self.up_projection = primus_decoder(width, out_channels, volume_patch)
        self.eva = Eva(
            embed_dim=width,
            depth=depth,
            num_heads=heads,
            ref_feat_shape=volume_grid,
            num_reg_tokens=num_register_tokens,
            init_values=init_values,
            scale_attn_inner=scale_attn_inner,
            proj_drop_rate=dropout_rate,
            drop_path_rate=drop_path_rate,
            block_fn=PrimusBlock,
        )
        # a part of Primus's state dict, which its masked pre-training uses
        self.register_buffer("mask_token", torch.zeros(1, 1, width))
        self.register_tokens: nn.Parameter | None = None
        if num_register_tokens > 0:
            self.register_tokens = nn.Parameter(torch.empty(1, num_register_tokens, width).normal_(std=1e-6))
        derive_buffer(self, "grid_idx", partial(grid_places, prod(grid)))
        derive_buffer(self, "eva.rope.pos_embed", partial(_rotary_positions, self.eva.rope.dim, tuple(volume_grid)))
        pruning = [
            SoftTopKPruning(
                width,
                ratio,
                after_block=block,
                tau=tau,
                sampling="topk" if sampling == "prior" else sampling,
                learn_score=sampling != "prior",
                norm_left=False,
            )
            for block, ratio in stages
        ]
        self.stages = nn.ModuleList(pruning)
        self.completion = build_completion(
            completion,
            grid,
            len(stages) + 1,
            hidden_size=width,
            num_heads=heads,
            qkv_bias=True,
            init_values=init_values,
            **completing,
        )
        self.prior = None if sampling == "random" else prior
        self.regions = regions
        self.keeps_left = completion != "mask_token"
        self.image_shape = [in_channels, *image]
        self.out_channels = out_channels
        self.grid_size = list(grid)
        self.volume_grid = list(volume_grid)
        # parts that Primus has not have no say at first: the prior, if any, decides alone, and MTA adds nothing
        new = [stage.score.score for stage in pruning if stage.score is not None and self.prior is not None]
        # a mask token is all that there is in its place
        for layer in new if self.completion is None or not self.keeps_left else [*new, self.completion.refine.project]:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, image: Tensor) -> Tensor:
        """Segment an image, (B, in_channels, *img_size) to logits (B, out_channels, *img_size).

        Raises:
            ValueError: if the image has other channels or another size.
        """
        encoded = self.encode(image)
        sets, places = encoded.token_sets, encoded.grid_idx
        kept = sets if self.keeps_left else [*[torch.zeros_like(left) for left in sets[:-1]], sets[-1]]
        completed = restore_tokens(kept, places) if len(sets) > 1 else sets[0]
        if self.completion is not None:
            # added behind the LayerNorm it grew until what all tokens share drowned what tells them apart
            normed = [self.eva.norm(tokens) for tokens in sets]
            completed = completed + self.completion(self.eva.norm(encoded.prefix), normed, places)
        volume = self.eva.norm(completed).transpose(1, 2).unflatten(2, self.volume_grid)
        logits: Tensor = self.up_projection(volume)
        return logits.squeeze(2) if len(self.grid_size) == 2 else logits

    def encode(self, image: Tensor) -> EncodedTokens:
        """All tokens of an image, before the final LayerNorm; see `SCDNetwork.encode`."""
        check_image(image, self.image_shape)
        volume = image.unsqueeze(2) if len(self.grid_size) == 2 else image
        tokens = self.down_projection(volume).flatten(2).transpose(1, 2)
        if self.register_tokens is not None:
            tokens = torch.cat((self.register_tokens.expand(tokens.shape[0], -1, -1), tokens), dim=1)
        tokens = self.eva.pos_drop(tokens + self.eva.pos_embed)
        first = self.eva.num_prefix_tokens
        everywhere = self.eva.rope.get_embed()
        # as timm's attention takes rotary positions: (N, d), or (B, 1, N, d) where each sample has its own
        rope = everywhere
        idx = self.grid_idx.expand(tokens.shape[0], -1)
        token_sets: list[Tensor] = []
        grid_idx: list[Tensor] = []
        policy: Tensor | None = None
        for i, block in enumerate(self.eva.blocks):
            before, tokens = tokens, block(tokens, rope=rope)
            for stage in self.stages:
                if stage.after_block == i + 1:
                    prior = None
                    if self.prior is not None:
                        prior = self._prior_scores(self.prior, i, before, tokens, rope, idx)
                    pruned = stage(tokens, idx, policy, prior, first)
                    tokens, idx, policy = pruned.kept, pruned.kept_idx, pruned.policy
                    token_sets.append(pruned.left)
                    grid_idx.append(pruned.left_idx)
                    rope = take_tokens(everywhere.expand(idx.shape[0], -1, -1), idx).unsqueeze(1)
        return EncodedTokens(tokens[:, :first], [*token_sets, tokens[:, first:]], [*grid_idx, idx], [])

    def with_outputs(self, weights: Mapping[str, Tensor], channels: Sequence[int]) -> dict[str, Tensor]:
        """See `SCDNetwork.with_outputs`; in the last layer, a transposed convolution, outputs are the second axis."""
        chosen, last = list(channels), f"up_projection.decode.{len(self.up_projection.decode) - 1}"
        weight, bias = weights[f"{last}.weight"], weights[f"{last}.bias"]
        return {**weights, f"{last}.weight": weight[:, chosen], f"{last}.bias": bias[chosen]}

    def set_regions(self, regions: bool) -> None:
        """As the argument; `arguments` follow."""
        self.regions = regions
        self.arguments = {**self.arguments, "regions": regions}

    def why_not(self, weights: Mapping[str, Tensor]) -> str:
        """Say whether the tokens have another size: stems of V2 and V3 have the same shapes for several sizes."""
        found, wanted = _decoded_edges(weights), _decoded_edges(self.state_dict())
        if prod(found) == 1 or found == wanted:
            return ""
        return f"tokens of {found} voxels instead of {wanted}"

    @torch.no_grad()
    def _prior_scores(
        self, kind: str, i: int, before: Tensor, tokens: Tensor, rope: Tensor, grid_idx: Tensor
    ) -> Tensor:
        """Training-free scores of the tokens behind block i, 0-based."""
        with _uncached_autocast(tokens.device.type) if self.training else nullcontext():
            return prior_scores(
                kind,
                before=before,
                after=tokens,
                num_prefix=self.eva.num_prefix_tokens,
                grid_idx=grid_idx,
                grid_size=self.volume_grid,
                # behind the last block there is none, and it stands in for the next one
                next_block=self.eva.blocks[min(i + 1, len(self.eva.blocks) - 1)],
                rope=rope,
                decode=lambda kept: decode_octants(self.up_projection, self.eva.norm(kept)),
                regions=self.regions,
            )


def _decoded_edges(weights: Mapping[str, Tensor]) -> tuple[int, ...]:
    """Voxels per axis of a token, three axes, from the decoder in a state dict of Primus; 1 each where it has none.

    Neither plans nor a trainer's name tell: stock Primus has 8 whatever the plans say.
    """
    decoder = [value for name, value in weights.items() if name.startswith("up_projection.decode.")]
    return total_stride([value.shape[2:] for value in decoder if value.ndim == 5], 3)


def _rotary_positions(channels: int, grid: Sequence[int]) -> Tensor:
    """Those that `Eva` gives its blocks."""
    rope = RotaryEmbeddingCat(channels, in_pixels=False, feat_shape=list(grid), ref_feat_shape=list(grid))
    return rope.get_embed()


def _uncached_autocast(device: str) -> AbstractContextManager[object]:
    """Autocast as it is, but what it casts is not kept.

    Before its fix (pytorch#165068) PyTorch kept weights that were cast without gradients, and took them where gradients
    were wanted.
    """
    eager = torch.amp.is_autocast_available(device) and not torch.compiler.is_compiling()
    if not (eager and torch.is_autocast_enabled(device)):
        return nullcontext()
    return torch.autocast(device, torch.get_autocast_dtype(device), cache_enabled=False)


def _check_pruning_options(sampling: str, prior: str | None, completion: str) -> None:
    check_option("sampling", sampling, SAMPLING)
    check_option("completion", completion, COMPLETION)
    check_option("prior", prior, (None, *PRIORS))
    if sampling == "prior" and prior is None:
        msg = f"sampling='prior' needs a prior, one of {', '.join(PRIORS)}; got None"
        raise ValueError(msg)


def _check_sizes(hidden_size: int, num_heads: int, num_register_tokens: int) -> None:
    if not isinstance(num_register_tokens, Integral) or num_register_tokens < 0:
        msg = f"num_register_tokens must be an int of at least 0; got {num_register_tokens!r}"
        raise ValueError(msg)
    if hidden_size % (6 * num_heads):
        msg = (
            f"hidden_size must be a multiple of 6 times num_heads, for rotary positions on three axes; got hidden_size "
            f"{hidden_size} and num_heads {num_heads}"
        )
        raise ValueError(msg)
