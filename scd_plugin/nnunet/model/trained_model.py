"""Reads the folder of a trained model, TRAINER__PLANS__CONFIGURATION, with plans, data set and a folder per fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from scd_plugin.nnunet.model.checkpoint import read_checkpoint
from scd_plugin.nnunet.model.recipe import NnunetRecipe, read_recipe

__all__ = ["CHECKPOINT", "ModelFolder", "choose_folds"]

CHECKPOINT = "checkpoint_final.pth"
_NEEDS = ("network_weights", "init_args", "trainer_name")
_MIRRORING = "inference_allowed_mirroring_axes"


def choose_folds(found: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Choose, by names without `fold_`, the folds to predict with.

    Without any that are wanted these are all that have a checkpoint, as in nnU-Net: the numbered ones, else `all`.

    Raises:
        ValueError: if a fold that is asked for was not found, or none was found.
    """
    if missing := [fold for fold in wanted if fold not in found]:
        msg = f"fold {', '.join(missing)} has no checkpoint; folds with one: {', '.join(sorted(found)) or 'none'}"
        raise ValueError(msg)
    numbered = sorted((fold for fold in found if fold.isdigit()), key=int)
    chosen = list(dict.fromkeys(wanted)) or numbered or list(found)
    if not chosen:
        msg = "no fold has a checkpoint"
        raise ValueError(msg)
    return chosen


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

        For folds see `choose_folds`, for trust `NnunetRecipe`.

        Raises:
            ValueError: if it is no model folder, if a file is missing or damaged, if a checkpoint holds more than
                tensors and numbers, if folds are of different trainers, or if plans name code that needs trust.
        """
        root = Path(folder).expanduser()
        for name in ("plans.json", "dataset.json"):
            if not (root / name).is_file():
                msg = (
                    f"{root} is no model folder of nnU-Net: it has no {name}. Name the folder "
                    "TRAINER__PLANS__CONFIGURATION of nnUNet_results, which holds plans.json, dataset.json and fold_0"
                )
                raise ValueError(msg)
        names = [path.parent.name.removeprefix("fold_") for path in root.glob(f"fold_*/{checkpoint}")]
        # nnU-Net has no others; a copy such as fold_0_old is none
        found = [name for name in names if name == "all" or (name.isascii() and name.isdigit())]
        try:
            chosen = choose_folds(found, folds)
        except ValueError as error:
            msg = f"{root}: {error} ({checkpoint})"
            raise ValueError(msg) from None
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
