"""A MONAI bundle, or weights alone, as a model folder that nnU-Net predicts with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from monai.inferers import SlidingWindowInferer
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from torch import Tensor, nn

from scd_plugin.bridge.bundle_files import weights_file
from scd_plugin.bridge.folders import empty_folder
from scd_plugin.bridge.from_monai.bundle_reader import Bundle, read_weights
from scd_plugin.bridge.from_monai.new_plans import (
    CONFIGURATION,
    build_dataset,
    build_plans,
    build_region_dataset,
    check_dataset,
)
from scd_plugin.bridge.from_monai.postprocessing import region_painting, window_notes
from scd_plugin.bridge.from_monai.preprocessing import express
from scd_plugin.bridge.from_monai.regions import in_painting_order, with_outputs
from scd_plugin.bridge.movable_model import model_card, refuse_cascade
from scd_plugin.bridge.network import choose_trainer, find_trainer, full_arguments, trainer_arguments
from scd_plugin.bridge.runtime.inferer import NnunetInferer
from scd_plugin.networks import SCDUNETR
from scd_plugin.networks.checkpoints import mismatch
from scd_plugin.nnunet.model.recipe import NnunetRecipe, read_json, read_recipe
from scd_plugin.nnunet.model.trained_model import CHECKPOINT

__all__ = ["Moved", "bundle_to_nnunet", "weights_to_nnunet"]


@dataclass(frozen=True)
class Moved:
    """A model folder, not written yet."""

    plans: Mapping[str, Any]
    dataset: Mapping[str, Any]
    trainer_name: str
    configuration: str
    weights: Mapping[str, Mapping[str, Tensor]]
    """Fold to state dict."""
    mirror_axes: tuple[int, ...] | None
    notes: list[str] = field(default_factory=list)
    """What differs a little between the hosts, one sentence each."""

    @property
    def name(self) -> str:
        """Folder name by which nnU-Net's commands find the model in nnUNet_results."""
        return f"{self.trainer_name}__{self.plans['plans_name']}__{self.configuration}"

    def write(self, folder: str | Path) -> Path:
        """Write the folder.

        Raises:
            ValueError: if there is something in it.
        """
        root = empty_folder(folder)
        (root / "plans.json").write_text(json.dumps(self.plans, indent=4) + "\n")
        (root / "dataset.json").write_text(json.dumps(self.dataset, indent=4) + "\n")
        for fold, weights in self.weights.items():
            # what nnU-Net's prediction reads; the rest of a checkpoint is of a training, and there was none here
            checkpoint = {
                "network_weights": dict(weights),
                "trainer_name": self.trainer_name,
                "init_args": {"configuration": self.configuration, "fold": fold},
                "inference_allowed_mirroring_axes": self.mirror_axes,
            }
            (root / f"fold_{fold}").mkdir()
            torch.save(checkpoint, root / f"fold_{fold}" / CHECKPOINT)
        return root


def bundle_to_nnunet(
    bundle: str | Path, *, trainer: str | None = None, dataset_json: str | Path | None = None
) -> Moved:
    """What a bundle is in nnU-Net.

    Args:
        bundle: a folder, written by `to_monai` or any other with SCD's network.
        trainer: name of the trainer that builds its network; None for the one that it was trained with, or for the
            first of the plug-in's that fits.
        dataset_json: nnU-Net's description of the labels; None to take it from the bundle's metadata. Needed where
            the bundle predicts regions and its metadata does not say of which labels they are made.

    Raises:
        ValueError: naming what can't be expressed.
    """
    source = Bundle.read(bundle)
    if source.from_nnunet:
        return _came_from_nnunet(source, trainer)
    return _made_for_monai(source, trainer, dataset_json)


def weights_to_nnunet(
    weights: str | Path,
    *,
    plans: str | Path,
    dataset_json: str | Path,
    trainer: str,
    configuration: str = CONFIGURATION,
    mirror_axes: Sequence[int] | None = None,
) -> Moved:
    """What a state dict is with the plans of an existing model.

    Args:
        weights: file with a state dict of the network that the trainer builds from these plans. Its axes are those of
            the plans.
        plans: nnU-Net's plans.json.
        dataset_json: nnU-Net's dataset.json.
        trainer: name of an SCD trainer.
        configuration: of the plans.
        mirror_axes: axes over which nnU-Net may mirror.

    Raises:
        ValueError: if the weights do not fit what the trainer builds; see also `find_trainer`.
    """
    known, described = read_json(Path(plans)), read_json(Path(dataset_json))
    recipe = NnunetRecipe(known, described, configuration)
    refuse_cascade(recipe, configuration)
    arguments = trainer_arguments(
        find_trainer(trainer),
        recipe.configuration.configuration,
        in_channels=recipe.num_channels,
        out_channels=recipe.labels.num_segmentation_heads,
    )
    fitting = _fitting(arguments, read_weights(weights), what=f"{weights}", trainer=trainer)
    axes = tuple(mirror_axes) if mirror_axes else None
    return Moved(known, described, trainer, configuration, {"0": fitting}, axes)


def _came_from_nnunet(source: Bundle, trainer: str | None) -> Moved:
    """Back to where it was: plans and data set lie in the bundle."""
    folder = source.root / "configs" / "nnunet"
    card = model_card(folder)
    recipe = read_recipe(folder, card["configuration"])
    extra = {one.name for one in source.preprocessing} - {"NnunetLoadImaged", "NnunetPreprocessd"}
    extra |= {one.name for one in source.postprocessing} - {"NnunetRestored", "NnunetSaveImaged"}
    if extra or not isinstance(source.inferer, NnunetInferer):
        msg = (
            f"the bundle does more than nnU-Net: {', '.join(sorted(extra)) or type(source.inferer).__name__} is not "
            "what it was written with. Take it out, or stay with MONAI"
        )
        raise ValueError(msg)
    network = full_arguments(source.network)
    name, _ = choose_trainer(network, recipe.configuration.configuration, trainer or card["trainer_name"])
    weights = {}
    for number, fold in enumerate(card["folds"]):
        file = source.root / "models" / weights_file(number, fold)
        weights[fold] = _fitting(source.network, read_weights(file), what=str(file), trainer=name)
    step = source.inferer.step_size
    notes = [] if step == 0.5 else [f"the bundle's step_size is {step}: predict with -step_size {step}"]
    return Moved(
        recipe.plans.plans,
        recipe.dataset,
        name,
        card["configuration"],
        weights,
        source.inferer.mirror_axes,
        notes,
    )


def _made_for_monai(source: Bundle, trainer: str | None, dataset_json: str | Path | None) -> Moved:
    """Plans made for it."""
    network = full_arguments(source.network)
    if network["spatial_dims"] != 3:
        dims = network["spatial_dims"]
        msg = f"network_def must have spatial_dims=3, the only bundles made for MONAI that can be moved; got {dims}"
        raise ValueError(msg)
    if not isinstance(source.inferer, SlidingWindowInferer):
        kind = type(source.inferer).__name__
        msg = f"the inferer must be MONAI's SlidingWindowInferer, since nnU-Net slides a window too; got {kind}"
        raise ValueError(msg)
    window = source.inferer
    notes = window_notes(_list(window.roi_size), float(window.overlap), str(window.mode), network["img_size"])
    preprocessing = express(source.preprocessing, num_channels=network["in_channels"], img_size=network["img_size"])
    painting = region_painting(source.postprocessing)
    dataset = _dataset(source, dataset_json, regions=painting is not None)
    _check_heads(dataset, network["out_channels"])
    plans = build_plans(network, preprocessing, name=source.root.resolve().name)
    name, arguments = choose_trainer(network, plans["configurations"][CONFIGURATION], trainer)
    file = source.root / "models" / "model.pt"
    weights = _fitting(arguments, _with_learned_norms(arguments, read_weights(file)), what=str(file), trainer=name)
    if painting is not None:
        names = [source.output_names.get(str(channel), "") for channel in range(network["out_channels"])]
        dataset, channels = in_painting_order(dataset, names, painting)
        weights = with_outputs(weights, channels)
    return Moved(plans, dataset, name, CONFIGURATION, {"0": weights}, None, [*preprocessing.notes, *notes])


def _list(roi_size: Any) -> list[int]:
    return [int(size) for size in roi_size] if isinstance(roi_size, Sequence) else [int(roi_size)] * 3


def _dataset(source: Bundle, dataset_json: str | Path | None, *, regions: bool) -> dict[str, Any]:
    if dataset_json is not None:
        given = dict(read_json(Path(dataset_json)))
        check_dataset(given)
        if (given.get("regions_class_order") is not None) != regions:
            kind = "regions" if regions else "classes"
            msg = f"the bundle predicts {kind}, and {dataset_json} does not: see its labels and regions_class_order"
            raise ValueError(msg)
        return given
    if regions and source.dataset.get("regions_order"):
        return build_region_dataset(source.channel_names, source.dataset)
    if regions:
        msg = (
            "the bundle predicts regions that overlap, and its metadata does not say of which labels they are made: "
            "give nnU-Net's dataset.json with labels and regions_class_order (--dataset-json)"
        )
        raise ValueError(msg)
    return build_dataset(source.channel_names, source.output_names)


def _check_heads(dataset: Mapping[str, Any], out_channels: int) -> None:
    try:
        heads = LabelManager(dataset["labels"], dataset.get("regions_class_order")).num_segmentation_heads
    except (AssertionError, RuntimeError) as error:
        msg = f"nnU-Net does not take the labels {dataset['labels']}: {error}"
        raise ValueError(msg) from None
    if heads != out_channels:
        msg = f"the network has {out_channels} output channels where its labels make {heads}: {dataset['labels']}"
        raise ValueError(msg)


def _with_learned_norms(arguments: Mapping[str, Any], weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The trainers' instance norms have a scale and a shift: 1 and 0 where the network was trained without."""
    with torch.device("meta"):
        network = SCDUNETR(**arguments)
    learned = dict(weights)
    for name, module in network.named_modules():
        if isinstance(module, (nn.InstanceNorm2d, nn.InstanceNorm3d)) and module.affine:
            learned.setdefault(f"{name}.weight", torch.ones(module.num_features))
            learned.setdefault(f"{name}.bias", torch.zeros(module.num_features))
    return learned


def _fitting(arguments: Mapping[str, Any], weights: dict[str, Tensor], *, what: str, trainer: str) -> dict[str, Tensor]:
    """The weights, if they are those of the network."""
    with torch.device("meta"):
        wanted = SCDUNETR(**arguments).state_dict()
    if problems := mismatch(wanted, weights, at_most=3):
        msg = f"weights in {what} do not fit the network that {trainer} builds: {problems}"
        raise ValueError(msg)
    return weights
