"""Builds the network of a trained model by its trainer, as nnU-Net builds it at prediction."""

from __future__ import annotations

import inspect
import io
from contextlib import redirect_stdout
from typing import Any

from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from torch import nn

from scd_plugin.networks.checkpoints import mismatch
from scd_plugin.nnunet.model.recipe import NnunetRecipe
from scd_plugin.nnunet.model.trained_model import ModelFolder

__all__ = ["build_network", "check_weights", "find_any_trainer", "network_of"]


def find_any_trainer(name: str) -> Any:
    """Find a trainer class by its name, as nnU-Net finds it.

    Raises:
        ValueError: if there is none, or if a module that nnU-Net imports on the way fails.
    """
    try:
        # nnU-Net prints each place that it searches, beginning with its own folder, where a user's trainers are not
        with redirect_stdout(io.StringIO()):
            return recursive_find_trainer_class_by_name(name)
    except Exception as error:  # noqa: BLE001  (a user's module may raise anything)
        reason = (str(error).splitlines() or [""])[0]
        if isinstance(error, RuntimeError) and reason.startswith("Could not find requested nnunet trainer"):
            msg = f"trainer {name} is not found. If it is your own, set nnUNet_extTrainer to the folder of its module"
        else:
            msg = (
                f"nnU-Net's search for trainer {name} fails with {type(error).__name__}: {reason}. It imports every "
                "module in the folders of nnUNet_extTrainer; scd doctor names the file to correct or to move out"
            )
        raise ValueError(msg) from None


def network_of(trainer_name: str, recipe: NnunetRecipe) -> nn.Module:
    """Build the network that a trainer builds from plans for prediction, with new weights.

    Raises:
        ValueError: if the trainer is not found, or as it raises itself.
    """
    build = find_any_trainer(trainer_name).build_network_architecture
    plans: tuple[Any, ...] = (recipe.plans, recipe.configuration)
    if "plans_manager" not in inspect.signature(build).parameters:
        # the signature before nnU-Net 2.8, which nnU-Net 2.8.1 still takes
        names = ("class_name", "init_kwargs", "init_kwargs_req_import")
        plans = tuple(getattr(recipe.configuration, f"network_arch_{name}") for name in names)
    return build(*plans, recipe.num_channels, recipe.labels.num_segmentation_heads, enable_deep_supervision=False)


def build_network(model: ModelFolder) -> nn.Module:
    """Build the network of a model, with the weights of the first fold.

    Raises:
        ValueError: if the trainer is not found, or if the weights of a fold do not fit what it builds.
    """
    network = network_of(model.trainer_name, model.recipe)
    check_weights(model, network)
    network.load_state_dict(model.weights[0])
    return network


def check_weights(model: ModelFolder, network: nn.Module) -> None:
    """Raise ValueError if the weights of a fold do not fit the network that the model's trainer builds."""
    for fold, weights in zip(model.folds, model.weights):
        if problems := mismatch(network.state_dict(), weights, at_most=3):
            msg = f"weights of fold {fold} in {model.folder} do not fit what {model.trainer_name} builds: {problems}"
            raise ValueError(msg)
