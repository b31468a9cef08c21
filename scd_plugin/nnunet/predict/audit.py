"""`scd audit` of a model folder of nnU-Net: its network on labelled cases of a raw data set."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PureWindowsPath

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from scd_plugin.channel_files import channel_files
from scd_plugin.folders import read_json
from scd_plugin.measure.audit import Audit
from scd_plugin.measure.image_audit import ImageAudit
from scd_plugin.networks.family import SCDNetwork
from scd_plugin.nnunet.model.recipe import NnunetRecipe
from scd_plugin.nnunet.model.trained_model import ModelFolder
from scd_plugin.nnunet.model.trained_network import build_network

__all__ = ["audit_model"]

# nnU-Net's mark of voxels outside of the image's part that is not zero
_OUTSIDE = -1


def audit_model(
    folder: Path,
    images: Path,
    labels: Path,
    *,
    device: torch.device,
    fold: str = "0",
    keep: float | None = None,
    trust: bool = False,
    say: Callable[[str], object] | None = None,
) -> Audit:
    """Count which tokens leave where in the cases that a fold was validated on, or in all if it was on none of them.

    Args:
        folder: TRAINER__PLANS__CONFIGURATION of nnUNet_results.
        images: folder of NAME_0000, ..., as nnU-Net names them.
        labels: folder of NAME.
        device: of the network.
        fold: whose checkpoint is taken.
        keep: share of the tokens that stays at each stage, None for the model's own.
        trust: whether plans may name code of any package.
        say: told where all cases are counted, since those that were trained on may be among them.

    Raises:
        ValueError: if the model or the data can't be read, labels are missing or unknown, the model is the second stage
            of a cascade, or its network prunes nothing.
    """
    model = ModelFolder.read(folder, [fold], trust=trust)
    recipe, network = model.recipe, build_network(model)
    if not isinstance(network, SCDNetwork):
        msg = f"{folder} holds a {type(network).__name__}, which prunes no tokens, so there is nothing to audit"
        raise ValueError(msg)
    if before := recipe.configuration.previous_stage_name:
        msg = (
            f"{model.configuration} is the second stage of a cascade, which needs label maps of {before}; see "
            f"token_audit.csv in {folder / f'fold_{fold}'}, which its training wrote"
        )
        raise ValueError(msg)
    audit = ImageAudit(network.to(device), regions=recipe.labels.has_regions)
    if keep is not None:
        network.set_keep_ratio(keep)
    cases = _cases(images, labels, recipe.file_ending)
    validated = _validated(folder / f"fold_{fold}" / "validation", recipe.file_ending)
    chosen = [name for name in cases if name in validated]
    if fold == "all" and chosen and say is not None:
        say(f"note: fold_all was trained on every case of its data set, so on all {len(chosen)} that are counted")
    if not chosen:
        chosen = list(cases)
        if say is not None:
            note = f"{folder / f'fold_{fold}'} was validated on none of these cases, as far as its folder validation"
            say(f"note: {note} tells: all {len(cases)} are counted, also any that it was trained on")
    for name in tqdm(chosen, desc="cases", leave=False):
        image, label, known = _case(recipe, cases[name], labels / f"{name}{recipe.file_ending}")
        audit.add(image, label, known=known)
    return audit.audit


def _validated(folder: Path, file_ending: str) -> set[str]:
    """Names of the cases that a fold's validation predicted; in models that were moved its summary alone is left."""
    files = [path.name for path in folder.glob(f"*{file_ending}")]
    with suppress(KeyError, TypeError, ValueError):
        # missing, or none of nnU-Net's; written on any system
        summary = read_json(folder / "summary.json")
        files += [PureWindowsPath(case["prediction_file"]).name for case in summary["metric_per_case"]]
    return {file.removesuffix(file_ending) for file in files}


def _cases(folder: Path, labels: Path, file_ending: str) -> dict[str, list[str]]:
    """Image files of each labelled case."""
    files = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    labelled = {path.name for path in labels.iterdir()} if labels.is_dir() else set()
    found = channel_files(files, file_ending).items()
    cases = {name: [str(folder / file) for file in images] for name, images in found if name + file_ending in labelled}
    if not cases:
        msg = (
            f"there is no labelled case: an audit needs NAME_0000{file_ending}, ... in {folder} and NAME{file_ending} "
            f"in {labels}"
        )
        raise ValueError(msg)
    return cases


def _case(recipe: NnunetRecipe, files: list[str], label_file: Path) -> tuple[Tensor, Tensor, Tensor]:
    """Read and prepare a case as for training: image, label (classes or regions), and which voxels count."""
    labels, (image, properties) = recipe.labels, recipe.read(files)
    try:
        data, segmentation = recipe.preprocess_labelled(image, recipe.read_label_map(str(label_file)), properties)
    except ValueError as error:
        msg = f"{label_file}: {error}"
        raise ValueError(msg) from None
    segmentation[segmentation == _OUTSIDE] = 0
    ignored = [labels.ignore_label] if labels.has_ignore_label else []
    allowed = sorted({0, *labels.all_labels, *ignored})
    if strange := sorted({*np.unique(segmentation).tolist()} - {*allowed}):
        msg = f"{label_file} holds the label {strange[0]}; the model knows {', '.join(map(str, allowed))}"
        raise ValueError(msg)
    known = ~np.isin(segmentation, ignored)
    truth = segmentation
    if labels.has_regions:
        truth = np.concatenate([np.isin(segmentation, region) for region in labels.foreground_regions])
    return torch.from_numpy(data)[None], torch.from_numpy(truth)[None], torch.from_numpy(known)[None]
