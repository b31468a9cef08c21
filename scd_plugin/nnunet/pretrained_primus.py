"""`-pretrained_weights` for SCD-Primus: from a stock Primus of nnU-Net, from nnssl's pre-training, or from SCD-Primus.

nnU-Net 2.8.1 has no other way to fine-tune; the one made for nnssl, which plans and preprocesses like the pre-training,
lives in a fork of it. Such a checkpoint holds the encoder and a decoder that reconstructs images.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from torch import Tensor

from scd_plugin.networks import SCDPrimus
from scd_plugin.networks.checkpoints import mismatch
from scd_plugin.networks.primus_checkpoints import NEW_PARTS, move_positions
from scd_plugin.networks.wrappers import without_wrappers
from scd_plugin.nnunet.checkpoint import read_checkpoint

__all__ = ["adapt_primus", "grid_of", "load_primus_checkpoint"]

_POSITIONS = "eva.pos_embed"
_REGISTERS = "register_tokens"
_DECODER = "up_projection."


def load_primus_checkpoint(network: SCDPrimus, fname: str) -> list[str]:
    """Load a checkpoint file into a new network.

    Args:
        network: without wrappers.
        fname: a checkpoint of nnU-Net or nnssl.

    Returns:
        What was adapted, in words.

    Raises:
        ValueError: if the weights do not fit; the message says what differs.
    """
    checkpoint = read_checkpoint(fname, needs=("network_weights",))
    weights, changes = adapt_primus(network, checkpoint["network_weights"], old_grid=grid_of(checkpoint))
    problems = _other_tokens(network, checkpoint) or mismatch(network.state_dict(), weights, at_most=3)
    if problems:
        msg = (
            f"pretrained weights {fname} of trainer {checkpoint.get('trainer_name')} do not fit this network: "
            f"{problems}. Use a trainer of the same version and size, as many input channels, and the same token size: "
            "that of stock Primus is scd_patch_size = 8"
        )
        raise ValueError(msg)
    network.load_state_dict(weights)
    return changes


def adapt_primus(
    network: SCDPrimus, weights: dict[str, Tensor], *, old_grid: list[int] | None
) -> tuple[dict[str, Tensor], list[str]]:
    """Weights of a dense or pruned Primus moved to another token grid, number of classes and pruning.

    Args:
        network: whose shapes are wanted. Its own decoder replaces one that does not fit.
        weights: state dict from a network of the same version and size; not changed.
        old_grid: tokens per axis that the weights were learned on; None where it is not known.

    Returns:
        The weights, and what was changed, in words.
    """
    own = network.state_dict()
    adapted = without_wrappers(weights)
    changes = []
    positions = adapted.get(_POSITIONS)
    if positions is not None and old_grid is not None:
        places = positions.shape[1] - network.eva.num_prefix_tokens
        same_axes = len(old_grid) == len(network.grid_size)
        if same_axes and prod(old_grid) == places and old_grid != network.grid_size:
            adapted[_POSITIONS] = move_positions(network, positions, old_grid)
            changes.append(f"positions interpolated from {tuple(old_grid)} to {tuple(network.grid_size)} tokens")
    decoder = {name: value for name, value in own.items() if name.startswith(_DECODER)}
    if any(name not in adapted or adapted[name].shape != value.shape for name, value in decoder.items()):
        adapted = {name: value for name, value in adapted.items() if not name.startswith(_DECODER)} | decoder
        changes.append("decoder starts anew")
    # all or none: a part of them is another pruning, which is refused
    for prefix in NEW_PARTS:
        new = {name: value for name, value in own.items() if name.startswith(prefix)}
        found = [name for name in adapted if name.startswith(prefix)]
        if new and not found:
            adapted.update(new)
            changes.append(f"{prefix[:-1]} start anew")
        elif found and not new:
            adapted = {name: value for name, value in adapted.items() if name not in found}
            changes.append(f"{prefix[:-1]} left out")
    return adapted, changes


def grid_of(checkpoint: dict[str, Any]) -> list[int] | None:
    """Tokens per axis that a checkpoint was learned on; None where it does not tell.

    Args:
        checkpoint: of nnU-Net, with the plans in it; or another, whose positions then tell a cubic grid.
    """
    weights = without_wrappers(checkpoint["network_weights"])
    init_args = checkpoint.get("init_args", {})
    if not {"plans", "configuration"} <= set(init_args):
        return _cube(weights)
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    crop = PlansManager(init_args["plans"]).get_configuration(init_args["configuration"]).patch_size
    # a 2-D image is a volume of one slice
    edges = _token_edges(weights)[-len(crop) :]
    return [int(size) // edge for size, edge in zip(crop, edges)]


def _other_tokens(network: SCDPrimus, checkpoint: dict[str, Any]) -> str:
    """Token sizes that differ, in words: the stems of V2 and V3 have the same shapes for several of them."""
    found, wanted = _token_edges(without_wrappers(checkpoint["network_weights"])), _token_edges(network.state_dict())
    known = prod(found) > 1
    return f"tokens of {tuple(found)} voxels instead of {tuple(wanted)}" if known and found != wanted else ""


def _token_edges(weights: Mapping[str, Tensor]) -> list[int]:
    """Voxels per axis of a token, three axes: what the steps of the decoder come to; 1 each where there is none.

    Neither plans nor a trainer's name tell: stock Primus has 8 whatever the plans say, and `scd_patch_size` any.
    """
    decoder = [value for name, value in weights.items() if name.startswith(f"{_DECODER}decode.")]
    steps = [value.shape[2:] for value in decoder if value.ndim == 5]
    return [prod(step[axis] for step in steps) for axis in range(3)]


def _cube(weights: Mapping[str, Tensor]) -> list[int] | None:
    """The cubic grid that nnssl pre-trains on, which names no crop in its checkpoints; None where it is no cube."""
    positions, registers = weights.get(_POSITIONS), weights.get(_REGISTERS)
    if positions is None:
        return None
    places = positions.shape[1] - (0 if registers is None else registers.shape[1])
    edge = round(places ** (1 / 3))
    return [edge] * 3 if edge**3 == places else None
