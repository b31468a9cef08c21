"""Reads nnU-Net's summary of an evaluation. Light to import."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scd_plugin.folders import read_json

__all__ = ["dice_by_class"]


def dice_by_class(summary: Mapping[str, Any], dataset: Path) -> tuple[dict[str, float], float]:
    """Return the mean Dice of each class or region by its name in `dataset.json`, and the mean over them."""
    labels = read_json(dataset / "dataset.json", dict)["labels"]
    # nnU-Net writes the keys of regions as tuples, of labels as numbers
    names = {str(tuple(value) if isinstance(value, list) else value): name for name, value in labels.items()}
    dice = {names.get(key, key): values["Dice"] for key, values in summary["mean"].items()}
    return dice, summary["foreground_mean"]["Dice"]
