"""Reads the settings of a given Primus off its modules, and tells whether `SCDPrimus` can be the same network."""

from __future__ import annotations

import re
from typing import Any

import torch
from dynamic_network_architectures.architectures.primus import Primus
from dynamic_network_architectures.building_blocks.patch_encode_decode import (
    LayerNormNd,
    PatchDecode,
    PatchEmbed,
    PatchEmbed_deeper,
    PatchEmbedDeeperControlled,
)
from timm.layers import DropPath, RotaryEmbeddingCat
from torch import nn

from scd_plugin.networks.scd_primus import SCDPrimus
from scd_plugin.networks.wrappers import unwrapped

__all__ = ["primus_arguments_of"]

_VERSIONS = {PatchEmbed: 1, PatchEmbed_deeper: 2, PatchEmbedDeeperControlled: 3}
# arguments of SCDPrimus that a dense network has no use for
_PRUNING = ("prune_after", "keep_ratio", "tau", "sampling", "prior")
# these act in training alone, or never
_SILENT = (nn.Dropout, nn.Identity, DropPath)
# where a difference is found: the arguments of Primus that it comes from
_CAUSES = {
    r"down_projection\.": "depth_per_level, ch_per_level, add_skips or nonlin",
    r"up_projection\.": "decoder_norm or decoder_act",
    r"eva\.rope": "rope_impl or rope_kwargs",
    r"eva\.blocks\.\d+\.mlp\.": "mlp_ratio",
}


def primus_arguments_of(primus: nn.Module) -> dict[str, Any]:
    """Arguments of `SCDPrimus` that build a given dense Primus (see `prune_primus`), without those of pruning.

    Dropout of attention weights, which `SCDPrimus` does not have, acts in training alone and is left out.

    Raises:
        ValueError: if it is no such network, prunes already, or differs from what `SCDPrimus` can be.
    """
    network = unwrapped(primus)
    if isinstance(network, SCDPrimus):
        return _arguments_of_dense(network)
    tokenizer, eva = getattr(network, "down_projection", None), getattr(network, "eva", None)
    version = _VERSIONS.get(type(tokenizer), 0)
    known = isinstance(network, Primus) and version > 0 and isinstance(network.up_projection, PatchDecode)
    if not known or eva is None or eva.rope is None or eva.pos_embed is None:
        msg = (
            "primus must be a Primus, PrimusV2 or PrimusV3 of dynamic-network-architectures with learned and rotary "
            f"positions, or a dense SCDPrimus; got {type(network).__name__}"
        )
        raise ValueError(msg)
    arguments = _read_off(network, version)
    with torch.device("meta"):
        _check_same(network, SCDPrimus(**arguments, keep_ratio=1))
    return arguments


def _arguments_of_dense(network: SCDPrimus) -> dict[str, Any]:
    if blocks := [stage.after_block for stage in network.stages]:
        msg = (
            f"primus must keep all tokens; got a {type(network).__name__} that prunes already, after blocks {blocks}: "
            "prune the dense network that it came from, or, for another share, build SCDPrimus anew with its arguments "
            "and that keep_ratio, and load its state dict"
        )
        raise ValueError(msg)
    return {
        name: value
        for name, value in network.arguments.items()
        if name not in _PRUNING and not name.startswith("completion")
    }


def _read_off(network: Any, version: int) -> dict[str, Any]:
    """Read sizes, and which of the optional parts there are."""
    tokenizer, eva = network.down_projection, network.eva
    first = next(module for module in tokenizer.modules() if isinstance(module, nn.Conv3d))
    patch = first.stride if version == 1 else (2 ** len(tokenizer.stages),) * 3
    block = eva.blocks[0]
    return {
        "in_channels": first.in_channels,
        "out_channels": network.up_projection.decode[-1].out_channels,
        "img_size": tuple(places * edge for places, edge in zip(eva.rope.feat_shape, patch)),
        "version": version,
        "patch_size": tuple(patch),
        "hidden_size": eva.embed_dim,
        "num_layers": len(eva.blocks),
        "num_heads": block.attn.num_heads,
        "num_register_tokens": eva.num_prefix_tokens,
        # loaded weights replace the value; that there is LayerScale is what counts
        "init_values": None if block.gamma_1 is None else 0.1,
        "scale_attn_inner": isinstance(block.attn.norm, nn.LayerNorm),
        "dropout_rate": block.attn.proj_drop.p,
        "drop_path_rate": getattr(eva.blocks[-1].drop_path1, "drop_prob", 0.0),
    }


def _check_same(network: Any, rebuilt: SCDPrimus) -> None:
    """Refuse other layers, settings or positions than those of the network rebuilt, or another forward pass."""
    if type(network).forward is not Primus.forward:
        msg = f"primus must have Primus's own forward pass; {type(network).__name__} has another, which would be lost"
        raise ValueError(msg)
    wanted, found = _layers(rebuilt), _layers(network)
    names = [*found, *(name for name in wanted if name not in found)]
    name = next((name for name in names if wanted.get(name) != found.get(name)), None)
    if name is not None:
        cause = next((cause for pattern, cause in _CAUSES.items() if re.match(pattern, name)), "setting")
        msg = (
            f"primus must be built with Primus's defaults apart from sizes, as SCDPrimus is; it has another {cause}: "
            f"{name} is {found.get(name, 'not there')}, where {wanted.get(name, 'nothing')} is needed"
        )
        raise ValueError(msg)


def _layers(network: nn.Module) -> dict[str, str]:
    """Kind and settings, in words, of each module that takes part in a prediction."""
    return {
        name: _in_words(module)
        for name, module in network.named_modules()
        if name and not isinstance(module, _SILENT) and not name.startswith(("stages", "completion"))
    }


def _in_words(module: Any) -> str:
    # parts of this package that compute the same in another way count as the library's
    kind = next(kind.__name__ for kind in type(module).__mro__ if not kind.__module__.startswith("scd_plugin."))
    if isinstance(module, LayerNormNd):
        return f"{kind}({len(module.weight)}, eps={module.eps})"
    if isinstance(module, RotaryEmbeddingCat):
        # its positions are no part of the state dict; these settings make them
        offset, indexing = getattr(module, "grid_offset", 0), getattr(module, "grid_indexing", "ij")
        return f"{kind}(temperature={module.temperature:g}, grid_offset={offset:g}, grid_indexing={indexing})"
    if isinstance(module, nn.ParameterList) or list(module.children()):
        return kind
    # sizes may be NumPy's numbers, which are written in another way
    settings = re.sub(r"np\.\w+\(([^)]*)\)", r"\1", module.extra_repr())
    return f"{kind}({settings})"
