"""A trained nnU-Net model as a MONAI bundle that predicts the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from scd_plugin.bridge.bundle_files import LICENSE, LOGGING, inference_config, metadata, readme, weights_file
from scd_plugin.bridge.movable_network import MovableNetwork, flat_weights, refuse_cascade, trainers_network
from scd_plugin.folders import CHECKPOINT, empty_folder
from scd_plugin.monai.plain_text import check_plain_text
from scd_plugin.nnunet.model.trained_model import ModelFolder
from scd_plugin.nnunet.model.trained_network import check_weights
from scd_plugin.whole_files import whole_folder

__all__ = ["to_monai"]


def to_monai(
    model_folder: str | Path,
    bundle: str | Path,
    folds: Sequence[str] = (),
    checkpoint: str = CHECKPOINT,
    *,
    trust: bool = False,
) -> Path:
    """Write a trained model as a bundle.

    Args:
        model_folder: TRAINER__PLANS__CONFIGURATION of nnU-Net's results.
        bundle: a folder that does not exist yet, or is empty.
        folds: which to average; empty for all that nnU-Net would take.
        checkpoint: name of the file in each fold.
        trust: whether plans may name code of any package, in the bundle as well.

    Returns:
        The bundle's folder.

    Raises:
        ValueError: if the model is none of SCD's, is a cascade's second stage, or files are missing or damaged, or the
            bundle's folder is not empty, or a name would be code in a config of MONAI; see also `ModelFolder.read`.
        OSError: as `whole_folder`.
    """
    model = ModelFolder.read(model_folder, folds, checkpoint, trust=trust)
    refuse_cascade(model.recipe, model.configuration)
    model = replace(model, weights=tuple(flat_weights(weights) for weights in model.weights))
    network = trainers_network(model.trainer_name, model.recipe)
    check_weights(model, network.network)
    _check_names(model, network)
    folder = empty_folder(bundle)
    with whole_folder(folder) as root:
        for name in ("configs/nnunet", "models", "docs"):
            (root / name).mkdir(parents=True)
        for name in ("plans.json", "dataset.json"):
            shutil.copyfile(model.folder / name, root / "configs" / "nnunet" / name)
        for number, (fold, weights) in enumerate(zip(model.folds, model.weights)):
            with (root / "models" / weights_file(number, fold)).open("wb") as file:
                torch.save(weights, file)
        _write_texts(root, model, network)
    return folder


def _check_names(model: ModelFolder, network: MovableNetwork) -> None:
    """Refuse a model of which a text that `bundle_files` takes over is missing, or would be code to MONAI."""
    recipe = model.recipe
    known = recipe.plans.plans | recipe.configuration.configuration
    if missing := [name for name in ("dataset_name", "plans_name", "patch_size") if name not in known]:
        msg = f"plans.json of {model.folder} has no {', '.join(missing)}; take plans.json of the training"
        raise ValueError(msg)
    names = {name: getattr(model, name) for name in ("configuration", "trainer_name", "checkpoint")}
    names |= {name: getattr(recipe.plans, name) for name in ("dataset_name", "plans_name")}
    names |= {"channel_names": recipe.channel_names, "labels": recipe.dataset["labels"]}
    names["arch_kwargs"] = network.arguments
    for entry, name in names.items():
        check_plain_text(name, f"{entry} of {model.folder}")


def _write_texts(root: Path, model: ModelFolder, network: MovableNetwork) -> None:
    plans = model.recipe.plans
    folds = f"fold {model.folds[0]}" if len(model.folds) == 1 else f"folds {', '.join(model.folds)}, averaged"
    origin = (
        f"Trained with nnU-Net on {plans.dataset_name}: {model.trainer_name}, {plans.plans_name}, "
        f"{model.configuration}, {folds} ({model.checkpoint})."
    )
    card = {name: getattr(model, name) for name in ("trainer_name", "configuration", "folds", "mirror_axes")}
    jsons = {
        "inference.json": inference_config(network, model),
        "metadata.json": metadata(network, model.recipe, origin),
        "nnunet/model.json": card,
    }
    for name, content in jsons.items():
        (root / "configs" / name).write_text(json.dumps(content, indent=4) + "\n")
    (root / "configs" / "logging.conf").write_text(LOGGING)
    (root / "LICENSE").write_text(LICENSE)
    (root / "docs" / "README.md").write_text(readme(network, model.recipe, origin))
