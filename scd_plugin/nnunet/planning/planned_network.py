"""The network that plans name: nnU-Net finds it by `architecture.network_class_name` and calls it with `arch_kwargs`.

Plans name the functions `scd_unetr` and `scd_primus`. They don't move, since plans that were written once keep them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scd_plugin.networks.builder import NETWORKS, complete_arguments, plain_value
from scd_plugin.networks.family import SCDNetwork
from scd_plugin.networks.scd_unetr import resolved_strides
from scd_plugin.ops.grid import per_axis, total_stride

__all__ = [
    "TRAINED_BY",
    "architecture_of",
    "planned_network",
    "plans_with",
    "scd_primus",
    "scd_unetr",
    "trained_by",
]

_DOORS = {name: f"{__name__}.{function}" for name, function in (("SCDUNETR", "scd_unetr"), ("SCDPrimus", "scd_primus"))}
# arguments that nnU-Net itself gives, by names of its own
_GIVEN = ("in_channels", "out_channels", "deep_supervision")
TRAINED_BY = "trained_by"
"""Name of the trainer in an architecture, where plans lie with a trained model."""


def scd_unetr(
    input_channels: int, num_classes: int, *, strides: Sequence[Sequence[int]], **arguments: Any
) -> SCDNetwork:
    """Build `SCDUNETR` from the arguments that nnU-Net gives, and others of its own by name.

    `strides` are as in all plans: ones, then the steps down to the token, then that of the pooled bottleneck if any.
    """
    own = _from_plans("SCDUNETR", {**arguments, "strides": strides})
    return NETWORKS["SCDUNETR"](in_channels=input_channels, out_channels=num_classes, **own)


def scd_primus(
    input_channels: int, num_classes: int, *, deep_supervision: bool = False, **arguments: Any
) -> SCDNetwork:
    """Build `SCDPrimus` from the arguments that nnU-Net gives, and others of its own by name.

    Raises:
        ValueError: if deep supervision is asked for.
    """
    if deep_supervision:
        msg = (
            "deep supervision must be off for SCD-Primus, whose decoder has one output; train it with "
            "nnUNetTrainerSCD, and leave scd_deep_supervision at False"
        )
        raise ValueError(msg)
    return NETWORKS["SCDPrimus"](in_channels=input_channels, out_channels=num_classes, **arguments)


def architecture_of(kind: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The entry `architecture` of plans from which nnU-Net builds an `"SCDUNETR"` or `"SCDPrimus"`.

    Channels and classes, which nnU-Net gives, may be missing in the arguments.

    Raises:
        ValueError: if the class takes no argument of that name, or needs one that is missing.
    """
    complete = complete_arguments(kind, {"in_channels": 1, "out_channels": 1, **arguments})
    kept = {name: value for name, value in complete.items() if name not in _GIVEN}
    dims = kept["spatial_dims"]
    for name in ("img_size", "patch_size"):
        kept[name] = list(per_axis(kept[name], dims, name=name))
    if kind == "SCDUNETR":
        steps, pool = resolved_strides(tuple(kept["patch_size"]), kept["strides"], kept.pop("pool_stride"))
        kept["strides"] = plain_value([(1,) * dims, *steps, *([] if pool is None else [pool])])
    return {"network_class_name": _DOORS[kind], "arch_kwargs": kept, "_kw_requires_import": []}


def plans_with(plans: Mapping[str, Any], configuration: str, architecture: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of plans whose configuration has another architecture."""
    known = plans["configurations"]
    changed = {**known[configuration], "architecture": dict(architecture)}
    return {**plans, "configurations": {**known, configuration: changed}}


def trained_by(plans: Mapping[str, Any], configuration: str, trainer: str) -> dict[str, Any]:
    """A copy of plans that names the trainer of a configuration's network, as they lie with a trained model."""
    architecture = plans["configurations"][configuration]["architecture"]
    return plans_with(plans, configuration, {**architecture, TRAINED_BY: trainer})


def planned_network(configuration: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """Class and arguments of the network of SCD that a resolved configuration names; None where it names none of SCD's.

    Raises:
        ValueError: if someone changed the crop of the plans and not the network's, which it is built for.
    """
    architecture = configuration.get("architecture", {})
    kind = next((kind for kind, door in _DOORS.items() if door == architecture.get("network_class_name")), None)
    if kind is None:
        return None
    arguments = architecture["arch_kwargs"]
    patch_size, img_size = list(configuration["patch_size"]), list(arguments["img_size"])
    if patch_size != img_size:
        msg = (
            f"patch_size {patch_size} in the plans differs from img_size {img_size} of the network in them "
            "(architecture, arch_kwargs); the crop is fixed where positions are learned: make both the same"
        )
        raise ValueError(msg)
    return kind, _from_plans(kind, arguments)


def _from_plans(kind: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Turn `arch_kwargs` of plans into arguments of the class."""
    if kind != "SCDUNETR":
        return dict(arguments)
    first, *rest = arguments["strides"]
    steps = rest if max(first) == 1 else [first, *rest]
    patch = tuple(arguments["patch_size"])
    fitting = [depth for depth in range(1, len(steps)) if total_stride(steps[:depth], len(patch)) == patch]
    depth = max(fitting, default=len(steps))
    pool = steps[depth] if depth < len(steps) else None
    return {**arguments, "strides": steps[:depth], "pool_stride": pool}
