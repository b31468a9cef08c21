"""Builds the network of a preset, with a crop and changes; every host builds its networks this way."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from scd_plugin.networks.family import SCDNetwork
from scd_plugin.networks.presets import get_preset
from scd_plugin.networks.scd_primus import SCDPrimus
from scd_plugin.networks.scd_unetr import SCDUNETR

__all__ = ["NETWORKS", "build_network", "changes_in_words", "complete_arguments", "network_arguments", "plain_value"]

NETWORKS: Mapping[str, type[SCDNetwork]] = {"SCDUNETR": SCDUNETR, "SCDPrimus": SCDPrimus}
"""Classes of the networks that presets describe, by name."""

# what a preset leaves to data and host
_OPEN = (
    *("in_channels", "out_channels", "img_size", "patch_size", "spatial_dims"),
    *("strides", "pool_stride", "deep_supervision", "regions"),
)
_LOGGER = logging.getLogger(__name__)


def build_network(
    preset: str,
    in_channels: int,
    out_channels: int,
    img_size: Sequence[int] | int,
    patch_size: Sequence[int] | int = 8,
    *,
    keep_ratio: Sequence[float] | float | None = None,
    **changes: Any,
) -> SCDNetwork:
    """Build the network of a preset. What differs from the preset is logged.

    Args:
        preset: a key of `scd_plugin.networks.presets.PRESETS`, for example `"base"`, `"small-fast"` or `"primus-m"`.
        in_channels: image channels.
        out_channels: classes or regions.
        img_size: crop in voxels per axis.
        patch_size: token in voxels per axis.
        keep_ratio: share of the tokens kept at each stage; None for the preset's.
        changes: any other argument of the network's class, in place of the preset's; `regions` any preset takes.

    Raises:
        ValueError: if there is no such preset, or its network takes no such argument or value.
    """
    kind, arguments = network_arguments(preset, img_size, patch_size, keep_ratio=keep_ratio, **changes)
    if said := changes_in_words(preset, arguments):
        _LOGGER.info("network %s with changes: %s", preset, said)
    network = NETWORKS[kind](in_channels=in_channels, out_channels=out_channels, **arguments)
    network.preset = preset
    return network


def network_arguments(
    preset: str,
    img_size: Sequence[int] | int,
    patch_size: Sequence[int] | int = 8,
    *,
    keep_ratio: Sequence[float] | float | None = None,
    strides: Sequence[Sequence[int]] | None = None,
    pool_stride: Sequence[int] | None = None,
    regions: bool = False,
    **changes: Any,
) -> tuple[str, dict[str, Any]]:
    """Class name of a preset's network, and its arguments without channels and classes; see `build_network`.

    `strides` and `pool_stride` are arguments of `SCDUNETR`. `SCDPrimus`, whose steps are all of 2, is given none.
    `regions` is one of `SCDPrimus`; `SCDUNETR`, which does not look at its own prediction, is not given it.
    """
    kind, arguments = get_preset(preset)
    if isinstance(img_size, Sequence | np.ndarray):
        arguments["spatial_dims"] = len(img_size)
    arguments |= {"img_size": img_size, "patch_size": patch_size}
    if kind == "SCDUNETR":
        arguments |= {"strides": strides, "pool_stride": pool_stride}
    else:
        arguments["regions"] = regions
    if keep_ratio is not None:
        changes["keep_ratio"] = keep_ratio
    if unknown := sorted(set(changes) - set(inspect.signature(NETWORKS[kind]).parameters)):
        msg = f"{kind}, the network of preset {preset}, takes no argument {', '.join(unknown)}; see its documentation"
        raise ValueError(msg)
    return kind, {**arguments, **changes}


def changes_in_words(preset: str, arguments: Mapping[str, Any]) -> str:
    """Say in what a network's arguments differ from its preset; empty if in nothing."""
    kind, given = get_preset(preset)
    of_preset = {name: one.default for name, one in inspect.signature(NETWORKS[kind]).parameters.items()} | given
    return ", ".join(
        f"{name} {plain_value(value)} instead of {plain_value(of_preset[name])}"
        for name, value in arguments.items()
        if name not in _OPEN and plain_value(value) != plain_value(of_preset[name])
    )


def complete_arguments(kind: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in the defaults of a network's arguments, and write all of them as JSON has them.

    Raises:
        ValueError: if the class, one of `NETWORKS`, takes no argument of that name, or needs one that is missing.
    """
    try:
        bound = inspect.signature(NETWORKS[kind]).bind(**arguments)
    except TypeError as error:
        msg = f"the arguments do not fit {kind}: {error}"
        raise ValueError(msg) from None
    bound.apply_defaults()
    return {name: plain_value(value) for name, value in bound.arguments.items()}


def plain_value(value: Any) -> Any:
    """Write a setting as JSON gives it back: sequences as lists and NumPy's numbers as Python's, all the way down."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain_value(part) for part in value]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {name: plain_value(part) for name, part in value.items()}
    return value
