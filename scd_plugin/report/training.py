"""A fold of an nnU-Net training: its log, the validation's label maps, and what the data set's folders hold of them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from math import isfinite
from pathlib import Path

from scd_plugin.report.kinds import ENDINGS, files_ending_in
from scd_plugin.report.predictions import add_images, add_truth, references
from scd_plugin.report.run import Curve, Listing, Run, read_labels, read_object, settings_rows

__all__ = ["read_log", "read_training"]

# of debug.json, where the trainer writes all of its attributes
_SETTINGS = frozenset(
    {"num_epochs", "num_iterations_per_epoch", "num_val_iterations_per_epoch", "batch_size", "initial_lr", "device"}
    | {"weight_decay", "network", "enable_deep_supervision", "oversample_foreground_percent"}
)
_LINES = {
    "training loss": re.compile(r": train_loss (\S+)"),
    "validation loss": re.compile(r": val_loss (\S+)"),
    "seconds": re.compile(r": Epoch time: (\S+) s"),
    "learning rate": re.compile(r": Current learning rate: (\S+)"),
}
_EPOCH, _DICE = re.compile(r": Epoch (\d+)\s*$"), re.compile(r": Pseudo dice \[(.*)\]")
_NUMBER = re.compile(r"(?:float\d+\()?(nan|[-+]?\d[\d.]*(?:e[-+]?\d+)?)\)?(?:, |$)")


def read_training(folder: Path) -> Run:
    """Read what a fold holds; images and truth as far as nnU-Net's folders, or the evaluation, name them."""
    model = folder.resolve().parent
    run = Run(f"Training: {model.name}, {folder.resolve().name}", folder)
    dataset = read_object(model / "dataset.json", run.notes)
    validation = folder / "validation"
    if validation.is_dir():
        ending = dataset.get("file_ending")
        run.label_maps = files_ending_in(validation, (ending,) if isinstance(ending, str) and ending else ENDINGS)
    else:
        run.notes.append("the training has not validated yet, so there are no cases: it does so at its end")
    if dataset:
        read_labels(run, dataset.get("labels"), dataset.get("regions_class_order"))
    for root in _homes("nnUNet_preprocessed", model):
        if (root / "gt_segmentations").is_dir():
            add_truth(run, root / "gt_segmentations")
    run.truth.update(references(read_object(validation / "summary.json", run.notes)))
    for root in _homes("nnUNet_raw", model):
        if (root / "imagesTr").is_dir():
            add_images(run, root / "imagesTr")
    run.curves = read_log(folder, list(run.classes))
    _add_settings(run, model)
    return run


def read_log(folder: Path, classes: list[str]) -> list[Curve]:
    """Read the curves in the logs of a fold; of an epoch that was trained twice the later one counts."""
    found: dict[str, dict[int, float]] = {}
    for log in sorted(folder.glob("training_log_*.txt")):
        epoch = 0
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
            if match := _EPOCH.search(line):
                epoch = int(match[1])
            for name, value in _values(line, classes):
                found.setdefault(name, {})[epoch] = value
    curves = [
        _curve("loss", found, ["training loss", "validation loss"]),
        _curve("pseudo Dice of patches, higher is better", found, [f"Dice: {name}" for name in ("mean", *classes)]),
        _curve("seconds of an epoch", found, ["seconds"]),
        _curve("learning rate", found, ["learning rate"]),
    ]
    return [curve for curve in curves if curve.lines]


def _values(line: str, classes: list[str]) -> Iterator[tuple[str, float]]:
    for name, pattern in _LINES.items():
        if (match := pattern.search(line)) and (value := _float(match[1])) is not None:
            yield name, value
    if match := _DICE.search(line):
        dice = [_float(number) for number in _NUMBER.findall(match[1])]
        known = [value for value in dice if value is not None]
        if known:
            yield "Dice: mean", sum(known) / len(known)
        yield from ((f"Dice: {name}", value) for name, value in zip(classes, dice) if value is not None)


def _float(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if isfinite(value) else None


def _curve(title: str, found: dict[str, dict[int, float]], names: list[str]) -> Curve:
    return Curve(
        title, "epoch", {name.removeprefix("Dice: "): sorted(found[name].items()) for name in names if name in found}
    )


def _homes(variable: str, model: Path) -> list[Path]:
    """Where the data set of a model may lie: by nnU-Net's variable, or beside nnUNet_results."""
    roots = [Path(os.environ[variable])] if os.environ.get(variable) else []
    return [root / model.parent.name for root in (*roots, model.parent.parent.parent / variable)]


def _add_settings(run: Run, model: Path) -> None:
    debug = read_object(run.folder / "debug.json", run.notes)
    trainer, plans, configuration = (*model.name.split("__"), "", "")[:3]
    fold = run.folder.resolve().name.removeprefix("fold_")
    known = {
        "data set": model.parent.name,
        "trainer": trainer,
        "plans": plans,
        "configuration": configuration,
    }
    known["fold"] = fold
    known["command"] = f"nnUNetv2_train {known['data set']} {configuration} {fold} -tr {trainer} -p {plans}"
    known |= {name: str(debug[name]).strip() for name in debug if name in _SETTINGS or name.startswith("scd_")}
    run.settings.append(Listing("Settings of the training", ("setting", "value"), settings_rows(known)))
    if "torch_version" in debug:
        versions = {"torch": debug["torch_version"], "cuDNN": debug.get("cudnn_version")}
        run.settings.append(Listing("Versions", ("package", "version"), settings_rows(versions)))
