"""Which of nnU-Net's models can be moved, and what is taken from their folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from scd_plugin.networks.wrappers import without_wrappers
from scd_plugin.nnunet.model.recipe import NnunetRecipe, read_json
from scd_plugin.nnunet.model.trained_model import CHECKPOINT, ModelFolder

__all__ = ["flat_weights", "model_card", "read_model", "refuse_cascade"]


def read_model(folder: str | Path, folds: Sequence[str] = (), checkpoint: str = CHECKPOINT) -> ModelFolder:
    """A model folder with flat weights, see `ModelFolder.read` and `flat_weights`.

    Raises:
        ValueError: as `ModelFolder.read` and `refuse_cascade` do.
    """
    model = ModelFolder.read(folder, folds, checkpoint)
    refuse_cascade(model.recipe, model.configuration)
    return replace(model, weights=tuple(flat_weights(weights) for weights in model.weights))


def refuse_cascade(recipe: NnunetRecipe, configuration: str) -> None:
    """Raise ValueError for a stage that takes another stage's output."""
    before = recipe.configuration.previous_stage_name
    if before is not None:
        msg = (
            f"configuration {configuration} is the second stage of a cascade: its network also takes the label map of "
            f"{before}, which a bundle has no place for. Move {before} or 3d_fullres"
        )
        raise ValueError(msg)


def flat_weights(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict without DDP's and torch.compile's prefixes, and without heads for training alone."""
    flat = without_wrappers(weights)
    return {name: value.detach().cpu() for name, value in flat.items() if not name.startswith("decoder.heads.")}


def model_card(folder: Path) -> dict[str, Any]:
    """What `to_monai` wrote down of a model: trainer, configuration, folds, mirroring."""
    card = read_json(folder / "model.json")
    missing = {"trainer_name", "configuration", "folds", "mirror_axes"} - set(card)
    if missing:
        msg = f"{folder / 'model.json'} lacks {', '.join(sorted(missing))}"
        raise ValueError(msg)
    return dict(card)
