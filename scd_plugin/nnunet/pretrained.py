"""nnU-Net's `-pretrained_weights`, for networks whose positions are learned for one crop.

nnU-Net 2.8.1 demands that every weight have the shape it has in the new network, except for segmentation layers of its
own naming. With SCD another patch size changes the positions, and another number of classes the output layer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from scd_plugin.networks import SCDUNETR, SCDPrimus
from scd_plugin.networks.checkpoints import mismatch
from scd_plugin.nnunet.checkpoint import PRETRAINED_NOTE, read_checkpoint, unwrapped
from scd_plugin.nnunet.plans import network_arguments
from scd_plugin.nnunet.pretrained_primus import load_primus_checkpoint
from scd_plugin.ops import interpolate_pos_embed

__all__ = ["adapt", "load_pretrained_weights"]

_POSITIONS = "encoder.pos_embed"
_OUTPUTS = ("decoder.out.", "decoder.heads.")


def load_pretrained_weights(
    nnunets_own: Callable[..., None], network: nn.Module, fname: str, verbose: bool = False
) -> None:
    """Called in place of nnU-Net's function of this name; says in one line what was adapted.

    Args:
        nnunets_own: nnU-Net's function, which other networks are passed on to.
        network: the new network; DDP and compile wrappers are looked through.
        fname: an nnU-Net checkpoint.
        verbose: as in nnU-Net.

    Raises:
        ValueError: if the weights do not fit; the message says what differs.
    """
    inner = unwrapped(network)
    if isinstance(inner, SCDPrimus):
        changes = load_primus_checkpoint(inner, fname)
    elif isinstance(inner, SCDUNETR):
        changes = _load_unetr_checkpoint(inner, fname)
    else:
        nnunets_own(network, fname, verbose=verbose)
        return
    note = f"pretrained weights from {fname}; adapted: {', '.join(changes) or 'nothing'}"
    setattr(inner, PRETRAINED_NOTE, note)
    print(note)  # noqa: T201


def _load_unetr_checkpoint(network: SCDUNETR, fname: str) -> list[str]:
    """Load a checkpoint file into a new network; what was adapted, in words."""
    checkpoint = read_checkpoint(fname, needs=("network_weights", "init_args"))
    old_grid = _grid_of(checkpoint["init_args"]) or network.grid_size
    weights, changes = adapt(network, checkpoint["network_weights"], old_grid=old_grid)
    problems = mismatch(network.state_dict(), weights, at_most=3)
    if problems:
        msg = (
            f"pretrained weights {fname} of trainer {checkpoint.get('trainer_name')} do not fit this network: "
            f"{problems}. Use a trainer of the same size and kind, plans with the same token size, and as many input "
            "channels"
        )
        raise ValueError(msg)
    network.load_state_dict(weights)
    return changes


def adapt(network: SCDUNETR, weights: dict[str, Tensor], *, old_grid: list[int]) -> tuple[dict[str, Tensor], list[str]]:
    """Weights moved to another token grid and another number of classes.

    Args:
        network: whose shapes are wanted. Its own output layers replace those that do not fit.
        weights: state dict from a network of the same kind; not changed.
        old_grid: tokens per axis that the weights were learned on.

    Returns:
        The weights, and what was changed, in words.
    """
    own = network.state_dict()
    adapted, changes = dict(weights), []
    positions = adapted.get(_POSITIONS)
    if positions is not None and len(old_grid) == len(network.grid_size) and old_grid != network.grid_size:
        adapted[_POSITIONS] = interpolate_pos_embed(positions, old_grid, network.grid_size)
        changes.append(f"positions interpolated from {tuple(old_grid)} to {tuple(network.grid_size)} tokens")
    outputs = [name for name in own if name.startswith(_OUTPUTS)]
    if any(name not in adapted or adapted[name].shape != own[name].shape for name in outputs):
        adapted = {name: value for name, value in adapted.items() if not name.startswith(_OUTPUTS)}
        adapted.update({name: own[name] for name in outputs})
        changes.append("output layers start anew")
    return adapted, changes


def _grid_of(init_args: dict[str, Any]) -> list[int] | None:
    """Token grid of a checkpoint, from the plans in it; a model from a MONAI bundle has none."""
    if "plans" not in init_args:
        return None
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    configuration = PlansManager(init_args["plans"]).get_configuration(init_args["configuration"]).configuration
    arguments = network_arguments(configuration)
    return [size // edge for size, edge in zip(arguments["img_size"], arguments["patch_size"])]
