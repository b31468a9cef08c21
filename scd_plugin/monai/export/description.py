"""What a deployment must know about an exported model, read from the bundle's parsed configs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from monai.bundle import ConfigParser
from torch import nn

from scd_plugin.monai.export.plans_description import describe_plans, single_network
from scd_plugin.networks import SCDNetwork

__all__ = ["describe", "find_network", "plain_config"]

_REFERENCE = re.compile(r"@[\w#:]+")
# how a bundle says that it is left out, and where its results go: neither concerns who runs the exported file
_NOT_DESCRIBED = ("_disabled_", "_desc_")
_SAVING = ("SaveImage", "NnunetSaveImage")
# of bundles that came from nnU-Net: its `recipe` holds the plans
_BY_PLANS = "NnunetPreprocessd"


def find_network(model: nn.Module) -> SCDNetwork:
    """Find the network of SCD that a bundle's `network_def` is, or holds.

    Raises:
        ValueError: if there is none.
    """
    for module in model.modules():
        if isinstance(module, SCDNetwork):
            return module
    msg = f"network_def must be or hold a network of SCD, a scd_plugin.SCDNetwork; got {type(model).__name__}"
    raise ValueError(msg)


def plain_config(parser: ConfigParser, config_id: str) -> Any:
    """Write a part of a config as plain JSON: components as they stand, references and expressions by their value.

    Components that are disabled are left out. A reference from an argument to another component stays a reference.

    Args:
        parser: holds the config.
        config_id: for example `preprocessing#transforms`.

    Raises:
        ValueError: if an expression can't be evaluated.
    """
    config = parser.get(config_id)
    if isinstance(config, Mapping):
        return {key: plain_config(parser, f"{config_id}#{key}") for key in config if key not in _NOT_DESCRIBED}
    if isinstance(config, list):
        ids = [_follow(parser, f"{config_id}#{i}") for i in range(len(config))]
        return [plain_config(parser, item) for item in ids if not _disabled(parser, item)]
    if not isinstance(config, str) or config[:1] not in ("@", "$"):
        return config
    target = parser.get(_follow(parser, config_id))
    if isinstance(target, Mapping) and "_target_" in target:
        return config
    return _plain_value(_evaluated(parser, config_id))


def describe(parser: ConfigParser, model: nn.Module, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Describe how images must come to the network and what its output means.

    Args:
        parser: holds a bundle's inference config.
        model: what `network_def` builds.
        metadata: of the bundle, as it stands in the file: a parser writes each # in it as ::.

    Returns:
        A JSON object. `preprocessing` and `postprocessing` are the bundle's transforms with all values resolved;
        `spacing`, `orientation`, `intensity` and `activation` are taken out of them, None or empty where they hold
        none. Where preprocessing is nnU-Net's, its plans say what these are, see `describe_plans`.

    Raises:
        ValueError: if the config has no `preprocessing`, `postprocessing` or `inferer`, or one can't be resolved, or if
            several networks are averaged.
    """
    for name in ("preprocessing", "postprocessing", "inferer"):
        if name not in parser:
            msg = f"configs/inference.json must have the id {name!r}; it has {', '.join(parser.get())}"
            raise ValueError(msg)
    network = find_network(model)
    before = list(_transforms(plain_config(parser, _follow(parser, "preprocessing"))))
    after = [
        step
        for step in _transforms(plain_config(parser, _follow(parser, "postprocessing")))
        if not _named(step, _SAVING)
    ]
    formats: Mapping[str, Any] = metadata.get("network_data_format", {})
    description = {
        "bundle": {key: metadata.get(key) for key in ("name", "version", "task")},
        "inputs": {"image": _tensor(formats, "inputs", "image", network.image_shape)},
        "outputs": {"pred": _tensor(formats, "outputs", "pred", [network.out_channels, *network.image_shape[1:]])},
        "img_size": network.image_shape[1:],
        "keep_ratio": {str(stage.after_block): stage.keep_ratio for stage in network.pruning_stages()},
        "spacing": _argument(before, "Spacing", "pixdim"),
        "orientation": _argument(before, "Orientation", "axcodes"),
        "intensity": [step for step in before if "Intensity" in step["_target_"]],
        "activation": next((name for name in ("softmax", "sigmoid") if _argument(after, "Activations", name)), None),
        "sliding_window": plain_config(parser, _follow(parser, "inferer")),
        "dataset": metadata.get("dataset"),
        "preprocessing": before,
        "postprocessing": after,
        "network": plain_config(parser, _follow(parser, "network_def")),
    }
    by_plans = next((step for step in before if _named(step, _BY_PLANS)), None)
    return description if by_plans is None else _with_plans(description, _evaluated(parser, by_plans["recipe"][1:]))


def _with_plans(description: dict[str, Any], recipe: Any) -> dict[str, Any]:
    """Add what nnU-Net's plans say; `recipe` comes from the config, for this host knows no nnU-Net."""
    described = describe_plans(recipe.plans.plans, recipe.configuration.configuration, recipe.dataset)
    described["sliding_window"] = {
        **single_network(description["sliding_window"]),
        "roi_size": description["img_size"],
        "mode": "gaussian",
    }
    for part in ("preprocessing", "postprocessing"):
        described[part] = [
            {name: value for name, value in step.items() if name != "recipe"} for step in description[part]
        ]
    return {**description, **described}


def _tensor(formats: Mapping[str, Any], side: str, name: str, shape: list[int]) -> dict[str, Any]:
    """Return what the metadata says of a tensor, with the shape that the network really has."""
    stated = dict(formats.get(side, {}).get(name, {}))
    channels = stated.get("channel_def") or {}
    if len(channels) != shape[0]:
        # metadata of another training: names of other channels would be wrong, none are only missing
        channels = {}
    return {"dtype": "float32", **stated, "num_channels": shape[0], "spatial_shape": shape[1:], "channel_def": channels}


def _transforms(composed: Any) -> Iterator[dict[str, Any]]:
    """List the transforms of a Compose, those of a Compose inside it too."""
    for step in composed["transforms"] if isinstance(composed, Mapping) and "transforms" in composed else [composed]:
        if isinstance(step, Mapping) and "transforms" in step:
            yield from _transforms(step)
        elif isinstance(step, Mapping) and "_target_" in step:
            yield dict(step)


def _named(step: Mapping[str, Any], name: str | tuple[str, ...]) -> bool:
    return step["_target_"].rpartition(".")[2].startswith(name)


def _argument(steps: list[dict[str, Any]], name: str, argument: str) -> Any:
    return next((step.get(argument) for step in steps if _named(step, name)), None)


def _follow(parser: ConfigParser, config_id: str) -> str:
    """Return the id that a chain of references ends at."""
    config = parser.get(config_id)
    while isinstance(config, str) and _REFERENCE.fullmatch(config) and config[1:] in parser:
        config_id = config[1:]
        config = parser.get(config_id)
    return config_id


def _disabled(parser: ConfigParser, config_id: str) -> bool:
    if not isinstance(parser.get(config_id), Mapping) or f"{config_id}#_disabled_" not in parser:
        return False
    disabled = _evaluated(parser, f"{config_id}#_disabled_")
    return disabled.lower() == "true" if isinstance(disabled, str) else bool(disabled)


def _evaluated(parser: ConfigParser, config_id: str) -> Any:
    try:
        return parser.get_parsed_content(config_id)
    except RuntimeError as error:
        msg = f"{config_id} of configs/inference.json can't be evaluated: {error.__cause__ or error}"
        raise ValueError(msg) from error


def _plain_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain_value(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (str, int, float, bool, type(None))):
        return value
    return value.__name__ if isinstance(value, type) else repr(value)
