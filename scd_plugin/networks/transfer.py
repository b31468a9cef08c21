"""Adapts weights of another crop, of other classes or of a dense network to a network of SCD."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from torch import Tensor

from scd_plugin.networks.family import SCDNetwork
from scd_plugin.networks.wrappers import without_wrappers
from scd_plugin.ops import interpolate_pos_embed

__all__ = ["adapt_weights", "move_positions"]


def adapt_weights(
    network: SCDNetwork, weights: Mapping[str, Tensor], *, old_grid: Sequence[int] | None
) -> tuple[dict[str, Tensor], list[str]]:
    """Move weights to another token grid, another number of classes and, from a dense network, to pruning.

    Args:
        network: the network to fit. Its own parts replace those that do not fit.
        weights: state dict from a network of the same kind and size; not changed.
        old_grid: tokens per axis that the weights were learned on; None where it is not known.

    Returns:
        The weights, and what was changed, in words. What still does not fit is left as it is.
    """
    own = network.state_dict()
    adapted = without_wrappers(weights)
    changes = []
    positions, grid = adapted.get(network.positions), list(network.grid_size)
    if positions is not None and old_grid is not None and list(old_grid) != grid and len(old_grid) == len(grid):
        num_prefix = own[network.positions].shape[1] - prod(grid)
        if positions.shape[1] == num_prefix + prod(old_grid):
            adapted[network.positions] = move_positions(network, positions, old_grid)
            changes.append(f"positions interpolated from {tuple(old_grid)} to {tuple(grid)} tokens")
    outputs = _part(own, network.outputs)
    if any(name not in adapted or adapted[name].shape != value.shape for name, value in outputs.items()):
        adapted = {name: value for name, value in adapted.items() if not name.startswith(network.outputs)} | outputs
        verb = "start" if network.outputs_called.endswith("s") else "starts"
        changes.append(f"{network.outputs_called} {verb} anew")
    # all or none: a part of them is another pruning, which is refused
    for prefix in network.new_parts:
        new, found = _part(own, (prefix,)), _part(adapted, (prefix,))
        if new and not found:
            adapted.update(new)
            changes.append(f"{prefix[:-1]} start anew")
        elif found and not new:
            adapted = {name: value for name, value in adapted.items() if name not in found}
            changes.append(f"{prefix[:-1]} left out")
    return adapted, changes


def move_positions(network: SCDNetwork, positions: Tensor, old_grid: Sequence[int]) -> Tensor:
    """Interpolate learned positions (1, P + prod(old_grid), D), P of them without a place, to the network's grid.

    Raises:
        ValueError: if the number of axes differs, or the positions do not belong to `old_grid`.
    """
    num_prefix = network.state_dict()[network.positions].shape[1] - prod(network.grid_size)
    return interpolate_pos_embed(positions, old_grid, network.grid_size, num_prefix=num_prefix)


def _part(weights: Mapping[str, Tensor], beginnings: tuple[str, ...]) -> dict[str, Tensor]:
    return {name: value for name, value in weights.items() if name.startswith(beginnings)}
