"""Reads a bundle's configs as its own `run` does, for commands that build its network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from monai.bundle import ConfigParser

from scd_plugin.networks import SCDNetwork

__all__ = ["check_readable", "set_own_keep_ratio"]


def check_readable(*files: str | Path) -> None:
    """Raise ValueError, naming the file, where one holds no JSON or YAML."""
    for file in files:
        _read(file)


def _read(file: str | Path) -> None:
    try:
        ConfigParser.load_config_file(file)
    except (ValueError, yaml.YAMLError) as error:
        why = " ".join(str(error).split())
        msg = f"{file} can't be read, correct it: {why}"
        raise ValueError(msg) from None


def set_own_keep_ratio(parser: ConfigParser, network: SCDNetwork) -> bool:
    """Set the config's `keep_ratio` in the network that it builds, as its `run` does; False where there is none.

    The network's `arguments` have it then.

    Raises:
        ValueError: if the network does not take it, or `arguments` can't build the like: where all tokens are to stay
            at a stage, or the network is a user's own.
    """
    ratio: Any = parser.get_parsed_content("keep_ratio") if "keep_ratio" in parser else None
    if ratio is None:
        return False
    network.set_keep_ratio(ratio)
    what = f"keep_ratio is {ratio} in the bundle's config, which can't go with it"
    if "keep_ratio" not in network.arguments:
        msg = f"{what}: {type(network).__name__} has no such argument; take null, and set it where that is built"
        raise ValueError(msg)
    if any(stage.keep_ratio == 1 for stage in network.pruning_stages()):
        msg = f"{what}: at 1 a stage would be left out, and weights would be others; take less, or null"
        raise ValueError(msg)
    return True
