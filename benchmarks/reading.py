"""Results of a run from their file."""

from __future__ import annotations

import json
from pathlib import Path

from scd_plugin.bench.contestants import parse_contestant
from scd_plugin.bench.results import SCHEMA, EntryResult, ModeResult, Results

__all__ = ["read_results"]


def read_results(path: Path) -> Results:
    """Results from a file.

    Raises:
        ValueError: if it is none, or one of another schema.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["schema"] != SCHEMA:
            msg = (
                f"{path} must be a result of scd bench, schema {SCHEMA}; got schema {found['schema']}: measure it again"
            )
            raise ValueError(msg)
        for entry in found["entries"]:
            entry["contestant"] = parse_contestant(entry["contestant"])
            entry["modes"] = {mode: ModeResult(**result) for mode, result in entry["modes"].items()}
        found["entries"] = [EntryResult(**entry) for entry in found["entries"]]
        return Results(**found)
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        msg = f"{path} cannot be read as a result of scd bench: {error}"
        raise ValueError(msg) from None
