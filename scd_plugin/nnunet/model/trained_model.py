"""Reads the folder of a trained model, TRAINER__PLANS__CONFIGURATION, with plans, data set and a folder per fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from scd_plugin.folders import CHECKPOINT, find_folds
from scd_plugin.nnunet.model.checkpoint import read_checkpoint
from scd_plugin.nnunet.model.recipe import NnunetRecipe, read_recipe

__all__ = ["ModelFolder"]

_NEEDS = ("network_weights", "init_args", "trainer_name")
_MIRRORING = "inference_allowed_mirroring_axes"


@dataclass(frozen=True)
class ModelFolder:
    """Contents of a model folder."""

    folder: Path
    recipe: NnunetRecipe
    configuration: str
    trainer_name: str
    folds: tuple[str, ...]
    checkpoint: str
    """Name of the checkpoint file in each fold."""
    weights: tuple[dict[str, Tensor], ...]
    """A state dict for each fold."""
    mirror_axes: tuple[int, ...] | None
    """Axes over which nnU-Net mirrors at prediction."""

    @classmethod
    def read(
        cls, folder: str | Path, folds: Sequence[str] = (), checkpoint: str = CHECKPOINT, *, trust: bool = False
    ) -> ModelFolder:
        """Read a model folder, TRAINER__PLANS__CONFIGURATION of nnU-Net's results.

        For folds see `find_folds`, for trust `NnunetRecipe`.

        Raises:
            ValueError: as `find_folds`, if a file is missing or damaged, if a checkpoint holds more than tensors and
                numbers, if folds are of different trainers, or if plans name code that needs trust.
        """
        root, chosen = Path(folder).expanduser(), find_folds(folder, folds, checkpoint)
        read = [_entries(root / f"fold_{fold}" / checkpoint) for fold in chosen]
        trainers = [entries["trainer_name"] for entries in read]
        configurations = [entries["init_args"]["configuration"] for entries in read]
        if len(set(zip(trainers, configurations))) > 1:
            msg = f"folds {', '.join(chosen)} of {root} are of different models: {trainers}, {configurations}"
            raise ValueError(msg)
        configuration, trainer_name = configurations[0], trainers[0]
        recipe = read_recipe(root, configuration, trust=trust)
        weights = tuple(entries["network_weights"] for entries in read)
        mirror_axes = tuple(int(axis) for axis in read[0][_MIRRORING] or ()) or None
        return cls(root, recipe, configuration, trainer_name, tuple(chosen), checkpoint, weights, mirror_axes)


def _entries(file: Path) -> dict[str, Any]:
    """Entries of a checkpoint that prediction needs; the optimiser's state, twice the size, is let go of."""
    checkpoint = read_checkpoint(str(file), needs=_NEEDS)
    return {name: checkpoint.get(name) for name in (*_NEEDS, _MIRRORING)}
