"""`-pretrained_weights` for SCD-Primus: from a stock Primus of nnU-Net, from nnssl's pre-training, or from SCD-Primus.

nnU-Net 2.8.1 has no other way to fine-tune; the one made for nnssl, which plans and preprocesses like the pre-training,
lives in a fork of it. Such a checkpoint holds the encoder and a decoder that reconstructs images.
"""

from __future__ import annotations

from math import prod
from typing import Any

from torch import Tensor

from scd_plugin.networks import SCDPrimus
from scd_plugin.networks.checkpoints import mismatch
from scd_plugin.networks.primus_checkpoints import NEW_PARTS, move_positions
from scd_plugin.nnunet.checkpoint import read_checkpoint
from scd_plugin.nnunet.plans import primus_arguments

__all__ = ["adapt_primus", "grids_of", "load_primus_checkpoint"]

_POSITIONS = "eva.pos_embed"
_DECODER = "up_projection."
# the token edge of nnU-Net's stock trainers
_STOCK_EDGE = 8


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
    weights, changes = adapt_primus(network, checkpoint["network_weights"], old_grids=grids_of(checkpoint))
    problems = mismatch(network.state_dict(), weights, at_most=3)
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
    network: SCDPrimus, weights: dict[str, Tensor], *, old_grids: list[list[int]]
) -> tuple[dict[str, Tensor], list[str]]:
    """Weights of a dense or pruned Primus moved to another token grid, number of classes and pruning.

    Args:
        network: whose shapes are wanted. Its own decoder replaces one that does not fit.
        weights: state dict from a network of the same version and size; not changed.
        old_grids: tokens per axis that the weights may have been learned on; the first that holds as many is taken.

    Returns:
        The weights, and what was changed, in words.
    """
    own = network.state_dict()
    adapted = {name.removeprefix("module.").removeprefix("_orig_mod."): value for name, value in weights.items()}
    changes = []
    positions = adapted.get(_POSITIONS)
    if positions is not None:
        places = positions.shape[1] - network.eva.num_prefix_tokens
        grid = next((grid for grid in old_grids if prod(grid) == places), None)
        if grid is not None and len(grid) == len(network.grid_size) and grid != network.grid_size:
            adapted[_POSITIONS] = move_positions(network, positions, grid)
            changes.append(f"positions interpolated from {tuple(grid)} to {tuple(network.grid_size)} tokens")
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


def grids_of(checkpoint: dict[str, Any]) -> list[list[int]]:
    """Token grids that a checkpoint can have, the likeliest first.

    Args:
        checkpoint: of nnU-Net, with the plans in it; or another, whose positions then tell a cubic grid.
    """
    positions = checkpoint["network_weights"].get(_POSITIONS)
    init_args = checkpoint.get("init_args", {})
    if not {"plans", "configuration"} <= set(init_args):
        return _cubes(positions)
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    configuration = PlansManager(init_args["plans"]).get_configuration(init_args["configuration"]).configuration
    found = []
    for edge in (None, _STOCK_EDGE):
        arguments = primus_arguments(configuration, patch_size=edge)
        found.append([size // part for size, part in zip(arguments["img_size"], arguments["patch_size"])])
    stock = not str(checkpoint.get("trainer_name")).startswith("nnUNetTrainerSCD")
    return found[::-1] if stock else found


def _cubes(positions: Tensor | None) -> list[list[int]]:
    """The cubic grid that nnssl pre-trains on, which names no crop in its checkpoints; none where it is no cube."""
    if positions is None:
        return []
    edge = round(positions.shape[1] ** (1 / 3))
    return [[edge] * 3] if edge**3 == positions.shape[1] else []
