"""The study's table: one row a finished run, in a CSV that only grows."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from plans import Run

COLUMNS = (
    *Run._fields,
    *("batch", "crop", "patch", "layers", "gmacs", "parameters", "seconds_a_step", "loss"),
    *("dice", "dice_by_class", "left_mixed", "left_foreground", "left_background"),
    # what rows did not have from the beginning comes last
    *("recall_by_size", "false_lesions_a_case", "date", "error", "left_voxels", "lesions_by_size", "dtype"),
)


def finished(path: Path) -> set[Run]:
    """Runs that have a row, also those that ended in an error."""
    if not path.exists():
        return set()
    with path.open(newline="") as file:
        return {
            Run(row["task"], row["network"], int(row["seed"]), int(row["steps"]), row["size"])
            for row in csv.DictReader(file)
        }


def append(path: Path, row: dict[str, Any], columns: Sequence[str] = COLUMNS) -> None:
    """Add a row; numbers get four significant digits, lists are written with blanks between."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, columns)
        if new:
            writer.writeheader()
        writer.writerow({name: _text(value) for name, value in row.items()})


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return " ".join(_text(part) for part in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
