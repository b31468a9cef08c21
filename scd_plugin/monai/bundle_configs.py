"""Reads a bundle's configs as its own `run` does, for commands that build its network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from monai.bundle import ConfigParser

__all__ = ["check_readable", "own_keep_ratio"]


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


def own_keep_ratio(parser: ConfigParser) -> float | list[float] | None:
    """Return the config's `keep_ratio`, which its `run` sets in the network; None where it leaves the network's own.

    Raises:
        ValueError: if it keeps all tokens at a stage: a network that is built so has other weights.
    """
    ratio: Any = parser.get_parsed_content("keep_ratio") if "keep_ratio" in parser else None
    if ratio is None:
        return None
    ratios = list(ratio) if isinstance(ratio, Sequence) else [ratio]
    if 1 in ratios:
        msg = (
            f"keep_ratio is {ratio} in the bundle's config, and at 1 a stage goes; take less, or null for the network's"
        )
        raise ValueError(msg)
    return list(ratio) if isinstance(ratio, Sequence) else float(ratio)
