"""The network that moves between the hosts: known by its class and all of its arguments, on either side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from scd_plugin.networks.builder import NETWORKS, complete_arguments
from scd_plugin.networks.checkpoints import mismatch
from scd_plugin.networks.family import SCDNetwork
from scd_plugin.nnunet.model.recipe import NnunetRecipe
from scd_plugin.nnunet.model.trained_network import network_of

__all__ = ["MovableNetwork", "trainers_network"]

# act in training alone
_OF_TRAINING = ("drop_path_rate", "dropout_rate", "tau", "deep_supervision")


class MovableNetwork:
    """A network of SCD without memory for weights.

    Args:
        network: of one of the classes in `NETWORKS`.
        what: where it comes from, for the error.

    Raises:
        ValueError: if it is another.
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
            # outputs for a loss
            self.arguments["deep_supervision"] = False

    def checked(self, weights: dict[str, Tensor], what: str) -> dict[str, Tensor]:
        """The weights, if they are those of the network.

        Raises:
            ValueError: if not, with what differs.
        """
        if problems := mismatch(self.network.state_dict(), weights, at_most=3):
            msg = f"weights in {what} do not fit the network that they are moved with: {problems}"
            raise ValueError(msg)
        return weights

    def must_be_of(self, trainer_name: str, recipe: NnunetRecipe) -> None:
        """Refuse a trainer of nnU-Net that builds another network from plans.

        Args:
            trainer_name: see `trainers_network`.
            recipe: with plans that name this network.

        Raises:
            ValueError: naming up to three arguments in which they differ; or as `trainers_network`.
        """
        other = trainers_network(trainer_name, recipe)
        ours, theirs = _of_prediction(self), _of_prediction(other)
        different = [
            f"{name} is {theirs.get(name)}, not {value}" for name, value in ours.items() if theirs.get(name) != value
        ]
        if different:
            msg = (
                f"trainer {trainer_name} builds another network than the bundle has: {'; '.join(different[:3])}. Take "
                "nnUNetTrainerSCD (--trainer)"
            )
            raise ValueError(msg)


def trainers_network(trainer_name: str, recipe: NnunetRecipe) -> MovableNetwork:
    """What a trainer of nnU-Net builds from plans for prediction.

    Args:
        trainer_name: as nnU-Net finds it.
        recipe: plans and data set.

    Raises:
        ValueError: if there is no such trainer, or its network is none of SCD's.
    """
    with torch.device("meta"):
        return MovableNetwork(network_of(trainer_name, recipe), f"the network of trainer {trainer_name}")


def _of_prediction(one: MovableNetwork) -> Mapping[str, Any]:
    """Arguments that a prediction depends on, in one form."""
    arguments = {"network": one.kind, **one.arguments}
    arguments = {name: value for name, value in arguments.items() if name not in _OF_TRAINING}
    arguments["patch_size"] = one.network.token_size()
    arguments["keep_ratio"] = [stage.keep_ratio for stage in one.network.pruning_stages()]
    arguments["prune_after"] = [stage.after_block for stage in one.network.pruning_stages()]
    if one.kind == "SCDUNETR":
        # both forms of the same steps
        del arguments["strides"], arguments["pool_stride"]
    return arguments
