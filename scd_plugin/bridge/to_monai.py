"""A trained nnU-Net model as a MONAI bundle that predicts the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import torch

from scd_plugin.bridge.bundle_files import (
    LICENSE,
    LOGGING,
    inference_config,
    label_channels,
    metadata,
    readme,
    weights_file,
)
from scd_plugin.bridge.folders import empty_folder
from scd_plugin.bridge.movable_model import read_model
from scd_plugin.bridge.movable_network import MovableNetwork, trainers_network
from scd_plugin.nnunet.model.trained_model import CHECKPOINT, ModelFolder
from scd_plugin.nnunet.model.trained_network import check_weights

__all__ = ["to_monai"]

_VERSIONS = ("monai", "torch", "numpy", "nnunetv2", "scd-plugin")


def to_monai(
    model_folder: str | Path, bundle: str | Path, folds: Sequence[str] = (), checkpoint: str = CHECKPOINT
) -> Path:
    """Write a bundle.

    Args:
        model_folder: TRAINER__PLANS__CONFIGURATION of nnU-Net's results.
        bundle: a folder that does not exist yet, or is empty.
        folds: which to average; empty for all that nnU-Net would take.
        checkpoint: name of the file in each fold.

    Returns:
        The bundle.

    Raises:
        ValueError: if the model is none of SCD's, is a cascade's second stage, or files are missing or damaged, or the
            bundle's folder is not empty; see also `read_model`.
    """
    model = read_model(model_folder, folds, checkpoint)
    network = trainers_network(model.trainer_name, model.recipe)
    check_weights(model, network.network)
    root = empty_folder(bundle)
    for name in ("configs/nnunet", "models", "docs"):
        (root / name).mkdir(parents=True)
    for name in ("plans.json", "dataset.json"):
        shutil.copyfile(model.folder / name, root / "configs" / "nnunet" / name)
    for number, (fold, weights) in enumerate(zip(model.folds, model.weights)):
        torch.save(weights, root / "models" / weights_file(number, fold))
    _write_texts(root, model, network)
    return root


def _write_texts(root: Path, model: ModelFolder, network: MovableNetwork) -> None:
    dataset, plans = model.recipe.dataset, model.recipe.plans
    folds = f"fold {model.folds[0]}" if len(model.folds) == 1 else f"folds {', '.join(model.folds)}, averaged"
    origin = (
        f"Trained with nnU-Net on {plans.dataset_name}: {model.trainer_name}, {plans.plans_name}, "
        f"{model.configuration}, {folds} ({model.checkpoint})."
    )
    title = f"{network.kind}, {plans.dataset_name}"
    jsons = {
        "inference.json": inference_config(
            network, configuration=model.configuration, folds=model.folds, mirror_axes=model.mirror_axes
        ),
        "metadata.json": metadata(
            network,
            channel_names=model.recipe.channel_names,
            labels=dataset["labels"],
            dataset_name=plans.dataset_name,
            origin=origin,
            versions={name: version(name) for name in _VERSIONS},
        ),
        "nnunet/model.json": {
            "trainer_name": model.trainer_name,
            "configuration": model.configuration,
            "folds": list(model.folds),
            "mirror_axes": None if model.mirror_axes is None else list(model.mirror_axes),
        },
    }
    for name, content in jsons.items():
        (root / "configs" / name).write_text(json.dumps(content, indent=4) + "\n")
    (root / "configs" / "logging.conf").write_text(LOGGING)
    (root / "LICENSE").write_text(LICENSE)
    text = readme(
        title=title,
        origin=origin,
        file_ending=model.recipe.file_ending,
        channel_names=model.recipe.channel_names,
        labels=", ".join(label_channels(dataset["labels"]).values()),
    )
    (root / "docs" / "README.md").write_text(text)
