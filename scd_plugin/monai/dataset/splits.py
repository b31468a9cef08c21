"""Which cases train and which validate: nnU-Net's own split where there is one, else a deterministic one."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from pathlib import Path

from scd_plugin.folders import read_json

__all__ = ["NUM_FOLDS", "find_splits_file", "split_names"]

NUM_FOLDS = 5


def find_splits_file(dataset_dir: Path) -> Path | None:
    """Find nnU-Net's splits_final.json: in the data set's folder, or where `nnUNet_preprocessed` points."""
    places = [dataset_dir / "splits_final.json"]
    preprocessed = os.environ.get("nnUNet_preprocessed")  # noqa: SIM112
    if preprocessed:
        places.append(Path(preprocessed) / dataset_dir.resolve().name / "splits_final.json")
    return next((place for place in places if place.is_file()), None)


def split_names(
    names: Sequence[str], *, fold: int = 0, seed: int = 0, splits_file: Path | None = None
) -> tuple[list[str], list[str]]:
    """Split names into those for training and those for validation.

    Args:
        names: all cases.
        fold: which of the folds validates; 0 to 4 without a file.
        seed: of the shuffle; the same names, fold and seed give the same split on every machine.
        splits_file: nnU-Net's splits_final.json; wins over fold and seed of our own.

    Raises:
        ValueError: if the fold is no whole number or does not exist, the file is wrong or names cases that are not
            there, or there are too few cases.
    """
    if not isinstance(fold, int):
        msg = f"fold must be a whole number from 0; got {fold!r}"
        raise ValueError(msg)
    known = set(names)
    if splits_file is not None:
        splits = read_json(splits_file, list)
        if not 0 <= fold < len(splits):
            msg = f"fold must be in [0, {len(splits) - 1}], the folds of {splits_file}; got {fold}"
            raise ValueError(msg)
        parts = [splits[fold].get(part) for part in ("train", "val")] if isinstance(splits[fold], dict) else []
        if not parts or not all(isinstance(part, list) and all(isinstance(n, str) for n in part) for part in parts):
            msg = (
                f"fold {fold} of {splits_file} must hold the lists of names train and val; got {str(splits[fold])[:80]}"
            )
            raise ValueError(msg)
        training, validation = parts
        unknown = sorted({*training, *validation} - known)
        if unknown:
            msg = f"{splits_file} names {len(unknown)} cases that the data set does not have: {', '.join(unknown[:5])}"
            raise ValueError(msg)
        return training, validation
    if not 0 <= fold < NUM_FOLDS:
        msg = f"fold must be in [0, {NUM_FOLDS - 1}]; got {fold}"
        raise ValueError(msg)
    if len(known) < 2:
        msg = f"training needs at least 2 labelled cases, one of them to validate; got {len(known)}"
        raise ValueError(msg)
    shuffled = sorted(known)
    random.Random(seed).shuffle(shuffled)  # noqa: S311
    validation = shuffled[fold::NUM_FOLDS] or shuffled[:1]
    return sorted(known - set(validation)), sorted(validation)
