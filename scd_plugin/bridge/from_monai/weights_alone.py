"""Weights without a bundle, moved to nnU-Net with the plans of an existing model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scd_plugin.bridge.from_monai.bundle_reader import read_weights
from scd_plugin.bridge.from_monai.moved_model import TRAINER, Moved
from scd_plugin.bridge.from_monai.new_plans import CONFIGURATION
from scd_plugin.bridge.movable_network import refuse_cascade, trainers_network
from scd_plugin.folders import read_json
from scd_plugin.nnunet.model.recipe import NnunetRecipe
from scd_plugin.nnunet.planning.planned_network import architecture_of, planned_network, plans_with

__all__ = ["weights_to_nnunet"]


def weights_to_nnunet(
    weights: str | Path,
    *,
    plans: str | Path,
    dataset_json: str | Path,
    trainer: str | None = None,
    configuration: str = CONFIGURATION,
    mirror_axes: Sequence[int] | None = None,
    trust: bool = False,
) -> Moved:
    """Turn a state dict into a model of nnU-Net, with the plans of an existing model.

    Args:
        weights: file with a state dict of the network that the trainer builds from these plans. Its axes are those of
            the plans.
        plans: nnU-Net's plans.json.
        dataset_json: nnU-Net's dataset.json.
        trainer: the trainer that builds the network; None where the plans name the network.
        configuration: a name in the plans.
        mirror_axes: axes over which nnU-Net may mirror.
        trust: whether plans may name code of any package.

    Raises:
        ValueError: if the weights do not fit what the trainer builds, or nothing tells which network they are of.
    """
    known, described = read_json(Path(plans)), read_json(Path(dataset_json))
    recipe = NnunetRecipe(known, described, configuration, trust=trust)
    refuse_cascade(recipe, configuration)
    if trainer is None and planned_network(recipe.configuration.configuration) is None:
        msg = f"{plans} names no network of SCD, so the trainer that builds it must be named (--trainer)"
        raise ValueError(msg)
    name = trainer or TRAINER
    network = trainers_network(name, recipe)
    fitting = network.checked(read_weights(weights), f"{weights}")
    axes = tuple(mirror_axes) if mirror_axes else None
    dims = len(recipe.configuration.patch_size)
    if wrong := [axis for axis in axes or () if not 0 <= axis < dims]:
        msg = f"mirror_axes must be of 0 to {dims - 1}, the axes of the plans' windows; got {wrong[0]}"
        raise ValueError(msg)
    named = plans_with(known, configuration, architecture_of(network.kind, network.arguments))
    return Moved(named, described, name, configuration, {"0": fitting}, axes)
