"""A trained nnU-Net model as a MONAI bundle that predicts the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

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
from scd_plugin.bridge.network import find_trainer, trainer_arguments
from scd_plugin.networks import SCDUNETR
from scd_plugin.networks.checkpoints import mismatch
from scd_plugin.nnunet.model.trained_model import CHECKPOINT, ModelFolder

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
    network = _network_arguments(model)
    root = empty_folder(bundle)
    for name in ("configs/nnunet", "models", "docs"):
        (root / name).mkdir(parents=True)
    for name in ("plans.json", "dataset.json"):
        shutil.copyfile(model.folder / name, root / "configs" / "nnunet" / name)
    for number, (fold, weights) in enumerate(zip(model.folds, model.weights)):
        torch.save(weights, root / "models" / weights_file(number, fold))
    _write_texts(root, model, network)
    return root


def _network_arguments(model: ModelFolder) -> dict[str, Any]:
    """Arguments of the trainer's network; raises ValueError where weights do not fit it."""
    arguments = trainer_arguments(
        find_trainer(model.trainer_name),
        model.recipe.configuration.configuration,
        in_channels=model.recipe.num_channels,
        out_channels=model.recipe.labels.num_segmentation_heads,
    )
    with torch.device("meta"):
        wanted = SCDUNETR(**arguments).state_dict()
    for fold, weights in zip(model.folds, model.weights):
        if problems := mismatch(wanted, weights, at_most=3):
            msg = f"weights of fold {fold} in {model.folder} do not fit what {model.trainer_name} builds: {problems}"
            raise ValueError(msg)
    return arguments


def _write_texts(root: Path, model: ModelFolder, network: dict[str, Any]) -> None:
    dataset, plans = model.recipe.dataset, model.recipe.plans
    folds = f"fold {model.folds[0]}" if len(model.folds) == 1 else f"folds {', '.join(model.folds)}, averaged"
    origin = (
        f"Trained with nnU-Net on {plans.dataset_name}: {model.trainer_name}, {plans.plans_name}, "
        f"{model.configuration}, {folds} ({model.checkpoint})."
    )
    title = f"SCD-UNETR, {plans.dataset_name}"
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
