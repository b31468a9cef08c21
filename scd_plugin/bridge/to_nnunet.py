"""A MONAI bundle as a model folder that nnU-Net predicts with."""

from __future__ import annotations

from pathlib import Path

from scd_plugin.bridge.bundle_files import weights_file
from scd_plugin.bridge.from_monai.bundle_reader import Bundle, read_weights
from scd_plugin.bridge.from_monai.made_for_monai import made_for_monai
from scd_plugin.bridge.from_monai.moved_model import TRAINER, Moved
from scd_plugin.bridge.runtime.inferer import NnunetInferer
from scd_plugin.folders import read_json
from scd_plugin.nnunet.model.recipe import NnunetRecipe, read_recipe
from scd_plugin.nnunet.planning.planned_network import architecture_of, plans_with

__all__ = ["bundle_to_nnunet"]

# what `to_monai` wrote down of the model
_CARD = ("trainer_name", "configuration", "folds", "mirror_axes")


def bundle_to_nnunet(
    bundle: str | Path,
    *,
    trainer: str | None = None,
    dataset_json: str | Path | None = None,
    trust: bool = False,
) -> Moved:
    """Turn a bundle into a model of nnU-Net, whose plans name the network, so that any trainer builds it.

    Args:
        bundle: a folder, written by `to_monai` or any other with SCD's network.
        trainer: name that goes into the checkpoint; None for the trainer of the model, or nnUNetTrainerSCD.
        dataset_json: nnU-Net's description of the labels; None to take it from the bundle's metadata. Needed where
            the bundle predicts regions and its metadata does not say of which labels they are made.
        trust: whether plans that a bundle brings along may name code of any package.

    Raises:
        ValueError: naming what can't be expressed.
    """
    source = Bundle.read(bundle)
    if source.from_nnunet:
        return _came_from_nnunet(source, trainer, trust=trust)
    return made_for_monai(source, trainer, dataset_json)


def _came_from_nnunet(source: Bundle, trainer: str | None, *, trust: bool) -> Moved:
    """The model that a bundle was made of, whose plans and data set lie in it, with the network that it has now.

    Raises:
        ValueError: if transforms were added, or if files are missing or do not fit.
    """
    folder = source.root / "configs" / "nnunet"
    card = read_json(folder / "model.json")
    if missing := sorted(set(_CARD) - set(card)):
        msg = f"{folder / 'model.json'} lacks {', '.join(missing)}"
        raise ValueError(msg)
    recipe = read_recipe(folder, card["configuration"], trust=trust)
    extra = {one.name for one in source.preprocessing} - {"NnunetLoadImaged", "NnunetPreprocessd"}
    extra |= {one.name for one in source.postprocessing} - {"NnunetRestored", "NnunetSaveImaged"}
    if extra or not isinstance(source.inferer, NnunetInferer):
        msg = (
            f"the bundle does more than nnU-Net: {', '.join(sorted(extra)) or type(source.inferer).__name__} is not "
            "what it was written with. Take it out, or stay with MONAI"
        )
        raise ValueError(msg)
    architecture = architecture_of(source.network.kind, source.network.arguments)
    plans = plans_with(recipe.plans.plans, card["configuration"], architecture)
    notes = []
    name = trainer or card["trainer_name"]
    try:
        source.network.must_be_of(name, NnunetRecipe(plans, recipe.dataset, card["configuration"], trust=trust))
    except ValueError as error:
        if trainer is not None:
            raise
        # the network was changed since, or the trainer is somebody else's
        notes.append(f"the model names {TRAINER}, which builds what the plans say, in place of {name}: {error}")
        name = TRAINER
    weights = {}
    for number, fold in enumerate(card["folds"]):
        file = source.root / "models" / weights_file(number, fold)
        weights[fold] = source.network.checked(read_weights(file), str(file))
    step = source.inferer.step_size
    if step != 0.5:
        notes.append(f"the bundle's step_size is {step}: predict with -step_size {step}")
    return Moved(plans, recipe.dataset, name, card["configuration"], weights, source.inferer.mirror_axes, notes)
