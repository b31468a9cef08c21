"""Networks that move between the hosts, known by class and all arguments, and their weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from scd_plugin.networks.builder import NETWORKS, complete_arguments
from scd_plugin.networks.checkpoints import mismatch
from scd_plugin.networks.family import SCDNetwork
from scd_plugin.networks.wrappers import without_wrappers
from scd_plugin.nnunet.model.recipe import NnunetRecipe
from scd_plugin.nnunet.model.trained_network import network_of

__all__ = ["MovableNetwork", "flat_weights", "refuse_cascade", "trainers_network"]

# these act in training alone
_OF_TRAINING = ("drop_path_rate", "dropout_rate", "tau", "deep_supervision")


class MovableNetwork:
    """A network of SCD that can be moved, built without memory for weights.

    Raises:
        ValueError: if it is of none of the classes in `NETWORKS`; the error says by `what` where it comes from.
    """

    def __init__(self, network: Any, what: str) -> None:
        if type(network) not in NETWORKS.values():
            known = " or ".join(f"scd_plugin.{name}" for name in NETWORKS)
            msg = f"{what} must be a {known}, the networks that are moved; it is a {type(network).__name__}"
            raise ValueError(msg)
        self.network: SCDNetwork = network
        self.kind = type(network).__name__
        self.arguments = {**complete_arguments(self.kind, network.arguments), "img_size": network.image_shape[1:]}
        if "deep_supervision" in self.arguments:
            # coarser outputs serve the loss alone
            self.arguments["deep_supervision"] = False

    def checked(self, weights: dict[str, Tensor], what: str) -> dict[str, Tensor]:
        """Return weights that fit the network; `what` says where they come from.

        Raises:
            ValueError: naming what does not fit.
        """
        if problems := mismatch(self.network.state_dict(), weights, at_most=3):
            msg = f"weights in {what} do not fit the network that they are moved with: {problems}"
            raise ValueError(msg)
        return weights

    def must_be_of(self, trainer_name: str, recipe: NnunetRecipe) -> None:
        """Refuse a trainer that builds another network than this one, from plans that name it.

        Raises:
            ValueError: naming up to three arguments in which they differ; or as `trainers_network`.
        """
        built = _of_prediction(trainers_network(trainer_name, recipe))
        own = _of_prediction(self).items()
        if different := [
            f"{name} is {built.get(name)}, not {value}" for name, value in own if built.get(name) != value
        ]:
            msg = (
                f"trainer {trainer_name} builds another network than the bundle has: {'; '.join(different[:3])}. Take "
                "nnUNetTrainerSCD (--trainer)"
            )
            raise ValueError(msg)


def trainers_network(trainer_name: str, recipe: NnunetRecipe) -> MovableNetwork:
    """The network that a trainer builds from plans for prediction.

    Raises:
        ValueError: if there is no such trainer, or its network is none of SCD's.
    """
    with torch.device("meta"):
        return MovableNetwork(network_of(trainer_name, recipe), f"the network of trainer {trainer_name}")


def _of_prediction(one: MovableNetwork) -> Mapping[str, Any]:
    """Arguments that a prediction depends on, so written that equal networks have equal ones."""
    arguments = {"network": one.kind, **one.arguments}
    arguments = {name: value for name, value in arguments.items() if name not in _OF_TRAINING}
    arguments["patch_size"] = one.network.token_size()
    arguments["keep_ratio"] = [stage.keep_ratio for stage in one.network.pruning_stages()]
    arguments["prune_after"] = [stage.after_block for stage in one.network.pruning_stages()]
    if one.kind == "SCDUNETR":
        # the same steps may be given or left to their default
        del arguments["strides"], arguments["pool_stride"]
    return arguments


def refuse_cascade(recipe: NnunetRecipe, configuration: str) -> None:
    """Raise ValueError for a configuration that takes the output of another one."""
    before = recipe.configuration.previous_stage_name
    if before is not None:
        msg = (
            f"configuration {configuration} is the second stage of a cascade: its network also takes the label map of "
            f"{before}, which a bundle has no place for. Move {before} or 3d_fullres"
        )
        raise ValueError(msg)


def flat_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict without DDP's and torch.compile's prefixes, and without heads that serve training alone."""
    flat = without_wrappers(weights)
    return {name: value.detach().cpu() for name, value in flat.items() if not name.startswith("decoder.heads.")}
