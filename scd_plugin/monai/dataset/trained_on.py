"""Which cases a bundle's weights were trained on: kept beside them, so that none of these is validated later."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scd_plugin.folders import read_json
from scd_plugin.monai.dataset.labelled_folders import without_ending

__all__ = ["TRAINED_ON", "case_names", "only_unseen", "seen_in_words", "trained_on"]

TRAINED_ON = "models/trained_on.json"
_LOGGER = logging.getLogger(__name__)


def trained_on(bundle_root: str | Path) -> dict[str, Any]:
    """Read `fold`, `seed` and the names in `training` of the weights that are there; 0, 0 and none without a record.

    Raises:
        ValueError: if the record is no JSON object.
    """
    file = Path(bundle_root) / TRAINED_ON
    return {"fold": 0, "seed": 0, "training": [], **(read_json(file, dict) if file.is_file() else {})}


def case_names(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name the cases of a data list; one that another program has listed is named as its label file."""
    return [str(entry.get("case") or without_ending(Path(entry["label"]))) for entry in entries]


def seen_in_words(entries: Sequence[Mapping[str, Any]], known: Mapping[str, Any]) -> str:
    """Say how many of the cases to validate were trained on, and the first of them; nothing if none was.

    Args:
        entries: a data list.
        known: see `trained_on`.
    """
    trained = set(known["training"])
    seen = [name for name in case_names(entries) if name in trained]
    return f"{len(seen)} of {len(entries)} cases to validate were trained on, the first is {seen[0]}" if seen else ""


def only_unseen(
    entries: Sequence[dict[str, Any]], known: Mapping[str, Any], *, fold: int, seed: int, skip_trained: bool
) -> list[dict[str, Any]]:
    """Return the cases to validate if none of them was trained on.

    Args:
        entries: a data list.
        known: see `trained_on`.
        fold: of the data list.
        seed: of the data list.
        skip_trained: leave those that were trained on out, with a line in the log, instead of refusing all.

    Raises:
        ValueError: if cases were trained on, and `skip_trained` is false or leaves none.
    """
    seen = seen_in_words(entries, known)
    if not seen:
        return list(entries)
    left = [entry for entry, name in zip(entries, case_names(entries)) if name not in set(known["training"])]
    if skip_trained and left:
        _LOGGER.warning("left out: %s", seen)
        return left
    way = "leave such cases out with --skip_trained True" if left else "take a data set with other cases"
    if (fold, seed) != (known["fold"], known["seed"]):
        seed_too = f" and --seed {known['seed']}" if seed != known["seed"] else ""
        way = f"give --fold {known['fold']}{seed_too} as in the training, or {way}"
    msg = f"{seen} ({TRAINED_ON} names them): {way}. If they are others of the same names, move that file away"
    raise ValueError(msg)
