"""What a report is made of, whatever kind of folder it was found in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Curve", "Listing", "Run", "read_labels", "read_object", "settings_rows"]

_LONG = 300


@dataclass(frozen=True)
class Curve:
    """Lines over the course of a training."""

    title: str
    x: str
    lines: Mapping[str, Sequence[tuple[float, float]]]


@dataclass(frozen=True)
class Listing:
    """A table of text; its first column names the row."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass
class Run:
    """Files of the cases, by their names, and what was noted beside them."""

    title: str
    folder: Path
    label_maps: dict[str, Path] = field(default_factory=dict)
    classes: dict[str, set[int]] = field(default_factory=dict)
    """Values of each class, or region, in the predicted label maps; empty where nothing names them."""
    truth_classes: dict[str, set[int]] = field(default_factory=dict)
    ignore: int | None = None
    """Value of voxels in the truth that do not count."""
    images: dict[str, Path] = field(default_factory=dict)
    """The first channel of each."""
    truth: dict[str, Path] = field(default_factory=dict)
    keep_maps: dict[str, Path] = field(default_factory=dict)
    stages: list[tuple[str, tuple[int, int, int]]] = field(default_factory=list)
    """Name and colour (RGB, 0 to 255) of each value of the keep maps from 1."""
    notes: list[str] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    listings: list[Listing] = field(default_factory=list)
    settings: list[Listing] = field(default_factory=list)


def read_object(path: Path, notes: list[str]) -> dict[str, Any]:
    """Read a JSON object; an empty one where the file is missing, or with a note where it is damaged."""
    from scd_plugin.folders import read_json

    if not path.is_file():
        return {}
    try:
        content: dict[str, Any] = read_json(path, dict)
    except (ValueError, OSError) as error:
        notes.append(f"{error}; it is left out")
        return {}
    return content


def read_labels(run: Run, labels: Any, region_order: Sequence[int] | None) -> None:
    """Take classes, or regions, from the labels of a dataset.json; with a note where they are none."""
    from scd_plugin.nnunet.predict.statistics import class_values

    try:
        plain = {
            str(name): value if isinstance(value, int) else tuple(map(int, value)) for name, value in labels.items()
        }
        regions = any(isinstance(value, tuple) and len(value) > 1 for value in plain.values())
        if not regions:
            # nnU-Net's channels, and what it logs of each, go by value, whatever the order in the file
            plain = dict(sorted(plain.items(), key=lambda one: one[1] if isinstance(one[1], int) else min(one[1])))
        run.classes = class_values(plain, region_order if regions else None)
        run.truth_classes = class_values(plain, None)
    except (AttributeError, TypeError, ValueError):
        run.notes.append(f"the labels of dataset.json, {labels}, name no classes; these are called by their values")
        return
    ignored = plain.get("ignore")
    run.ignore = ignored if isinstance(ignored, int) else None


def settings_rows(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Settings as text, one a row; long ones are cut."""
    rows = []
    for name, value in settings.items():
        text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
        rows.append((str(name), text if len(text) <= _LONG else f"{text[:_LONG]} ..."))
    return rows
