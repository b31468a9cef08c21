"""Refuses plans whose network contradicts a trainer's settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scd_plugin.networks.builder import plain_value
from scd_plugin.networks.presets import get_preset

__all__ = ["OF_TRAINING", "explicit_settings", "refuse_contradiction", "same_setting"]

DEFAULTS = "scd_settings_are_defaults"
"""Attribute of trainer classes whose own settings are defaults, which plans override."""
OF_TRAINING = ("drop_path_rate", "dropout_rate", "tau")
"""Settings that act in training alone."""


def explicit_settings(trainer: type, names: Sequence[str]) -> set[str]:
    """Which of these settings a trainer class states, rather than takes from a class of defaults."""
    stated = [vars(one) for one in trainer.__mro__ if DEFAULTS not in vars(one)]
    return {name for name in names if any(name in attributes for attributes in stated)}


def refuse_contradiction(
    trainer: str, planned: tuple[str, Mapping[str, Any]], *, preset: str | None, changes: Mapping[str, Any]
) -> None:
    """Raise ValueError where plans name another network than the preset and changes that a trainer states.

    Keep ratios of the preset are no statement, since planners count them anew for each data set.
    """
    kind, arguments = planned
    wanted_kind, wanted = (kind, {}) if preset is None else get_preset(preset)
    if wanted_kind != kind:
        msg = f"the plans name the network {kind}, and {trainer} trains {wanted_kind}. {_REMEDY}"
        raise ValueError(msg)
    wanted.pop("keep_ratio", None)
    wanted = {name: value for name, value in {**wanted, **changes}.items() if name not in OF_TRAINING}
    stages = len(arguments.get("prune_after") or (0,))
    different = [
        f"{name} is {plain_value(arguments.get(name))} in the plans and {plain_value(value)} in {trainer}"
        for name, value in wanted.items()
        if not same_setting(name, arguments.get(name), value, stages)
    ]
    if different:
        msg = f"the network of the plans contradicts the trainer: {'; '.join(different[:3])}. {_REMEDY}"
        raise ValueError(msg)


_REMEDY = (
    "Train with nnUNetTrainerSCD, which builds what the plans say, or plan for this trainer (nnUNetv2_plan_experiment, "
    "nnU-Net's default planner leaves the network to the trainer)"
)


def same_setting(name: str, one: Any, other: Any, stages: int) -> bool:
    """Tell whether two values of a setting are alike; one number may stand for each stage, or for each axis."""
    counts = {"keep_ratio": stages, "patch_size": max(len(value) for value in (one, other, ()) if _is_list(value))}

    def each(value: Any) -> Any:
        return [value] * counts[name] if name in counts and isinstance(value, (int, float)) else plain_value(value)

    return bool(each(one) == each(other))


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))
