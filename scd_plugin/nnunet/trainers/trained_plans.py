"""The plans that nnU-Net keeps with a trained model name the network that was trained.

Else prediction would take today's preset, and settings that no weight shows, such as the keep ratio, could have changed
since. nnU-Net predicts all folds of a model folder with one network, and keeps the plans in every checkpoint too.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

from scd_plugin.folders import read_json, trained_folds
from scd_plugin.networks.builder import NETWORKS, plain_value
from scd_plugin.networks.family import SCDNetwork
from scd_plugin.nnunet.planning.planned_network import architecture_of, plans_with, trained_by
from scd_plugin.nnunet.trainers.contradictions import OF_TRAINING, same_setting

__all__ = ["as_trained", "trained_plans", "with_other_folds"]

_ADOPTED = ("keep_ratio", "regions")
"""What a training takes from the checkpoint that it goes on from, whatever the settings say."""


def trained_plans(plans: Mapping[str, Any], configuration: str, network: nn.Module, trainer: str) -> dict[str, Any]:
    """Return plans whose configuration names the network and its trainer; as they are for networks of others."""
    architecture = _architecture(network)
    if architecture is None:
        return dict(plans)
    named = trained_by(plans_with(plans, configuration, architecture), configuration, trainer)
    crop = architecture["arch_kwargs"]["img_size"]
    if list(PlansManager(named).get_configuration(configuration).patch_size) != list(crop):
        # a trainer of the user's may have changed the crop for itself, and prediction knows the plans alone
        named["configurations"][configuration]["patch_size"] = list(crop)
    return named


def as_trained(network: nn.Module, plans: object, configuration: str, source: str) -> str:
    """Give a network what `_ADOPTED` names as a checkpoint was trained with it; return what is to be said, if anything.

    Args:
        network: changed in place where it differs.
        plans: those in the checkpoint.
        configuration: the configuration's name.
        source: what to call the checkpoint.

    Raises:
        ValueError: if the network differs in anything else that acts at prediction.
    """
    changed = _changed(network, plans, configuration)
    if changed is None:
        return _not_known(f"{source} does not say with which keep ratio it was trained", network)
    adopted: dict[str, Any] = {name: changed.pop(name) for name in _ADOPTED if name in changed}
    if changed:
        msg = (
            f"{source} was trained with {_in_words(changed)} in this training; go on with the settings that it was "
            "trained with, or start a new training"
        )
        raise ValueError(msg)
    if not adopted or not isinstance(network, SCDNetwork):
        return ""
    trained = {name: then for name, (then, _) in adopted.items()}
    if "regions" in trained:
        network.set_regions(trained["regions"])
    if ratio := trained.get("keep_ratio"):
        # stages that keep all were left out when the network was built
        network.set_keep_ratio([one for one in ratio if one < 1] if isinstance(ratio, list) else ratio)
    stays = ", ".join(map(str, trained.values()))
    return f"{source} was trained with {_in_words(adopted)} in these settings; it stays at {stays}"


def with_other_folds(fold: Path, configuration: str, network: nn.Module) -> str:
    """Refuse a training whose network differs from that of other folds; return what is to be said, if anything.

    Raises:
        ValueError: naming these folds and the settings.
    """
    trained = (f"fold_{name}" for name in trained_folds(fold.parent, "checkpoint_*.pth"))
    others = [name for name in trained if name != fold.name]
    if not others:
        return ""
    names = ", ".join(others)
    try:
        plans = read_json(fold.parent / "plans.json")
    except ValueError:
        # nnU-Net writes the file anew
        plans = {}
    changed = _changed(network, plans, configuration)
    if changed is None:
        return _not_known(f"plans.json does not say with which keep ratio {names} was trained", network)
    if changed:
        msg = (
            f"{names} in {fold.parent} was trained with {_in_words(changed)} in this training, and nnU-Net predicts "
            "all folds with one network. Train this fold with the same settings, or all of them under another name of "
            "trainer or plans, or move the others away"
        )
        raise ValueError(msg)
    return ""


def _not_known(what: str, network: nn.Module) -> str:
    ratios = [stage.keep_ratio for stage in network.pruning_stages()] if isinstance(network, SCDNetwork) else []
    # a network that prunes nothing has weights of other names
    return f"{what}: this training has {ratios}; make sure that they are the same" if ratios else ""


def _architecture(network: nn.Module) -> dict[str, Any] | None:
    kind, arguments = type(network).__name__, getattr(network, "arguments", None)
    return architecture_of(kind, arguments) if NETWORKS.get(kind) is type(network) and arguments else None


def _changed(network: nn.Module, plans: object, configuration: str) -> dict[str, tuple[Any, Any]] | None:
    """Settings that act at prediction and differ, as plans name them and as the network has them.

    None where plans name no such network, as those of models that were trained before plans did so.
    """
    try:
        trained = PlansManager(plans).get_configuration(configuration).configuration["architecture"]
        then, door = dict(trained["arch_kwargs"]), trained["network_class_name"]
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError):
        # whatever else is in a file of nnU-Net's that is not needed here
        return None
    own = _architecture(network)
    if own is None or own["network_class_name"] != door:
        return None
    now, stages = own["arch_kwargs"], len(own["arch_kwargs"].get("prune_after") or (0,))
    # what plans of earlier versions do not name was as it is by default
    parameters = inspect.signature(type(network)).parameters
    then = {name: parameters[name].default for name in now if name in parameters} | then
    return {
        name: (plain_value(value), plain_value(now[name]))
        for name, value in then.items()
        if name in now and name not in OF_TRAINING and not same_setting(name, value, now[name], stages)
    }


def _in_words(changed: Mapping[str, tuple[Any, Any]]) -> str:
    return ", ".join(f"{name} {then}, which is {now}" for name, (then, now) in changed.items())
