"""Dense Primus into SCD-Primus: its state dicts, and the network itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from scd_plugin.networks.checkpoints import mismatch
from scd_plugin.networks.scd_primus import SCDPrimus
from scd_plugin.ops import interpolate_pos_embed

__all__ = ["NEW_PARTS", "load_primus_state_dict", "move_positions", "primus_arguments_of", "prune_primus"]

# what SCD-Primus has and Primus has not
NEW_PARTS = ("stages.", "completion.")

_POSITIONS = "eva.pos_embed"


def load_primus_state_dict(
    net: SCDPrimus, state_dict: Mapping[str, Tensor], *, old_grid: Sequence[int] | None = None
) -> None:
    """Load the weights of a dense Primus; score predictors and completion keep their start.

    Args:
        net: of the same version, size, token patch, channels and classes.
        state_dict: of `Primus`, with or without the prefixes of DDP and `torch.compile`; not changed.
        old_grid: tokens per axis that it was trained on; positions are interpolated. None for those of `net`.

    Raises:
        ValueError: if keys are missing or unknown, or shapes differ: all of them are named in this one error, and
            the network is left as it was.
    """
    theirs = {name.removeprefix("module.").removeprefix("_orig_mod."): value for name, value in state_dict.items()}
    if old_grid is not None and _POSITIONS in theirs:
        theirs[_POSITIONS] = move_positions(net, theirs[_POSITIONS], old_grid)
    own = net.state_dict()
    shared = {name: value for name, value in own.items() if not name.startswith(NEW_PARTS)}
    problems = mismatch(shared, theirs)
    if problems:
        msg = f"the checkpoint is not of the dense Primus inside of this {type(net).__name__}; {problems}"
        raise ValueError(msg)
    net.load_state_dict({**own, **theirs})


def move_positions(net: SCDPrimus, positions: Tensor, old_grid: Sequence[int]) -> Tensor:
    """Learned positions of another token grid, interpolated to that of a network.

    Args:
        net: whose grid is wanted.
        positions: (1, R + prod(old_grid), D).
        old_grid: tokens per axis.

    Raises:
        ValueError: if the number of axes differs, or the positions do not belong to `old_grid`.
    """
    return interpolate_pos_embed(positions, old_grid, net.grid_size, num_prefix=net.eva.num_prefix_tokens)


def prune_primus(
    primus: nn.Module, *, prior: str = "entropy", prune_after: Sequence[int] | None = None, **changes: Any
) -> SCDPrimus:
    """A trained dense Primus with tokens leaving on the way, without any training.

    Tokens are chosen by a training-free score and decoded as they were when they left. There is no new parameter.

    Args:
        primus: a `Primus`, `PrimusV2` or `PrimusV3` of dynamic-network-architectures; not changed.
        prior: the score, see `scd_plugin.networks.priors`.
        prune_after: 1-based blocks; None for a quarter, half and three quarters of the depth, which a network that was
            not trained for it bears better than one early stage, down to a share of a half.
        changes: of the pruning: `keep_ratio`.

    Returns:
        The network, on the same device and in the same mode, with weights of its own.
    """
    arguments = primus_arguments_of(primus)
    stages = _quarters(arguments["num_layers"]) if prune_after is None else prune_after
    settings = {"sampling": "prior", "prior": prior, "prune_after": stages, "completion": "restore", **changes}
    net = SCDPrimus(**arguments, **settings)
    net.load_state_dict(primus.state_dict())
    return net.to(next(primus.parameters()).device).train(primus.training)


def primus_arguments_of(primus: nn.Module) -> dict[str, Any]:
    """Arguments of `SCDPrimus` that build a given Primus, read off its modules.

    Args:
        primus: as in `prune_primus`.

    Raises:
        ValueError: if it is no such network.
    """
    network: Any = primus
    tokenizer, eva = getattr(network, "down_projection", None), getattr(network, "eva", None)
    versions = {"PatchEmbed": 1, "PatchEmbed_deeper": 2, "PatchEmbedDeeperControlled": 3}
    version = versions.get(type(tokenizer).__name__)
    if tokenizer is None or version is None or eva is None or eva.rope is None or eva.pos_embed is None:
        msg = (
            "primus must be a Primus, PrimusV2 or PrimusV3 of dynamic-network-architectures with learned and rotary "
            f"positions; got {type(primus).__name__}"
        )
        raise ValueError(msg)
    first = tokenizer.proj if version == 1 else tokenizer.stem.blocks[0].conv1.conv
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
    }


def _quarters(num_layers: int) -> list[int]:
    """After one, two and three quarters of the depth; fewer stages in fewer than four layers."""
    return sorted({num_layers * quarter // 4 for quarter in (1, 2, 3)} - {0})
