"""nnU-Net's `-pretrained_weights`, for networks whose positions are learned for one crop.

nnU-Net 2.8.1 demands that every weight have the shape it has in the new network, except for segmentation layers of its
own naming. With SCD another patch size changes the positions, and another number of classes the output layer; and
SCD-Primus starts from a stock Primus of nnU-Net, or from nnssl's pre-training, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

from torch import nn

from scd_plugin.networks.checkpoints import mismatch
from scd_plugin.networks.family import SCDNetwork
from scd_plugin.networks.transfer import adapt_weights
from scd_plugin.networks.wrappers import without_wrappers
from scd_plugin.nnunet.model.checkpoint import PRETRAINED_NOTE, read_checkpoint
from scd_plugin.nnunet.trainers.inner_network import unwrapped

__all__ = ["grid_of", "load_pretrained_weights"]


def load_pretrained_weights(
    nnunets_own: Callable[..., None], network: nn.Module, fname: str, verbose: bool = False
) -> None:
    """Load pretrained weights in place of nnU-Net's function of this name; say in one line what was adapted.

    Checkpoints are nnU-Net's or nnssl's. Networks that are not SCD's are passed on to nnU-Net's own function.

    Raises:
        ValueError: if the weights do not fit; the message says what differs.
    """
    inner = unwrapped(network)
    if not isinstance(inner, SCDNetwork):
        nnunets_own(network, fname, verbose=verbose)
        return
    checkpoint = read_checkpoint(fname, needs=("network_weights",))
    weights, changes = adapt_weights(inner, checkpoint["network_weights"], old_grid=grid_of(checkpoint, inner))
    problems = inner.why_not(without_wrappers(checkpoint["network_weights"]))
    if problems := problems or mismatch(inner.state_dict(), weights, at_most=3):
        msg = (
            f"pretrained weights {fname} of trainer {checkpoint.get('trainer_name')} do not fit this network: "
            f"{problems}. Use a trainer of the same kind, size and version, as many input channels, and plans with the "
            "same token size (that of stock Primus is scd_patch_size = 8)"
        )
        raise ValueError(msg)
    inner.load_state_dict(weights)
    note = f"pretrained weights from {fname}; adapted: {', '.join(changes) or 'nothing'}"
    setattr(inner, PRETRAINED_NOTE, note)
    print(note)  # noqa: T201


def grid_of(checkpoint: Mapping[str, Any], network: SCDNetwork) -> list[int] | None:
    """Tokens per axis that a checkpoint was learned on; None where it does not tell.

    nnU-Net's has the plans in it; nnssl's names no crop, and its grid is a cube. Both networks have tokens of one size.
    """
    positions = without_wrappers(checkpoint["network_weights"]).get(network.positions)
    if positions is None or positions.ndim != 3:
        return None
    places = positions.shape[1] - (network.state_dict()[network.positions].shape[1] - prod(network.grid_size))
    init_args = checkpoint.get("init_args") or {}
    if "plans" in init_args:
        from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

        try:
            crop = PlansManager(init_args["plans"]).get_configuration(init_args["configuration"]).patch_size
        except (KeyError, RuntimeError, TypeError, ValueError):
            # plans without it
            return None
        return [int(size) // edge for size, edge in zip(crop, network.token_size())]
    if "configuration" in init_args:
        # a model that came from a MONAI bundle tells no more
        return None
    edge = round(places ** (1 / 3))
    return [edge] * 3 if edge**3 == places else None
