"""A MONAI bundle's run: what its training, evaluation and inference leave in the output folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from scd_plugin.channel_files import case_name
from scd_plugin.folders import is_bundle
from scd_plugin.report.kinds import ENDINGS
from scd_plugin.report.predictions import add_images, add_truth, read_predictions, read_rows
from scd_plugin.report.run import Curve, Listing, Run, read_labels, read_object, settings_rows

__all__ = ["POSTFIX", "add_evaluation", "read_bundle", "read_scalars"]

_OUTPUT, POSTFIX = "eval", "_seg"
_SCORES = "val_mean_dice_raw.csv"
# images of a labelled folder and of nnU-Net's, and their labels
_BESIDE = {"images": "labels", "imagesTr": "labelsTr", "imagesTs": "labelsTs"}
_CURVES = {
    "training loss": ("step", {"train_loss": "training loss"}),
    "validation Dice, higher is better": ("epoch", {"val_mean_dice": "validation Dice"}),
}


def read_bundle(folder: Path) -> Run:
    """Read a bundle, or its output folder; of a bundle that is its folder `eval`."""
    root = folder if is_bundle(folder) else folder.parent
    output = root / _OUTPUT if folder == root else folder
    if output.is_dir():
        run = read_predictions(output)
    else:
        run = Run("", output, notes=[f"there is no {output}: the bundle has not run yet, or has written elsewhere"])
    run.title = f"Bundle: {root.resolve().name}"
    run.label_maps = {name.removesuffix(POSTFIX): path for name, path in run.label_maps.items()}
    metadata = read_object(root / "configs" / "metadata.json", run.notes)
    inference = read_object(root / "configs" / "inference.json", run.notes)
    # that of nnU-Net, if the bundle was made of its model
    moved = read_object(root / "configs" / "nnunet" / "dataset.json", run.notes)
    labels, order = (
        (moved["labels"], moved.get("regions_class_order")) if "labels" in moved else _labels(metadata, inference)
    )
    if labels and not run.classes:
        read_labels(run, labels, order)
    if output.is_dir():
        add_evaluation(run)
    _add_settings(run, root, metadata, inference)
    return run


def add_evaluation(run: Run) -> None:
    """Add what the bundle's engines write: curves, Dice of each image, and where the images were."""
    run.curves += read_scalars(run.folder)
    rows = read_rows(run.folder / _SCORES)
    if not rows:
        return
    names = list(run.classes)
    head = [str(key) for key in rows[0] if key]
    columns = [key for key in head if key != "filename"]
    # MONAI counts the classes, without the background
    titles = [names[i] if (i := _number(key)) is not None and i < len(names) else key for key in columns]
    images = [Path(row.get("filename") or "") for row in rows]
    # inference may have seen others of the same folder
    for folder in sorted({image.parent for image in images if image.is_file()}):
        add_images(run, folder)
        labels = folder.with_name(_BESIDE.get(folder.name, folder.name))
        if labels != folder and labels.is_dir():
            add_truth(run, labels)
    listed = [
        (case_name(image.name, ENDINGS), *(_rounded(row[key]) for key in columns)) for image, row in zip(images, rows)
    ]
    run.listings.append(Listing("Dice as the evaluation of the bundle has written it", ("image", *titles), listed))


def read_scalars(folder: Path) -> list[Curve]:
    """Read curves from TensorBoard's files; of several trainings in one folder the points of all."""
    if not any(True for _ in folder.glob("events.out.tfevents.*")):
        return []
    # 0: every point, not a sample of them
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    known, curves = events.Tags()["scalars"], []
    for title, (x, tags) in _CURVES.items():
        lines = {
            name: [(one.step, one.value) for one in events.Scalars(tag)] for tag, name in tags.items() if tag in known
        }
        if lines:
            curves.append(Curve(title, x, lines))
    return curves


def _labels(metadata: Mapping[str, Any], inference: Mapping[str, Any]) -> tuple[dict[str, Any], list[int] | None]:
    """Names and values of the classes, and what is written for regions."""
    dataset = metadata.get("dataset")
    if isinstance(dataset, dict) and dataset.get("labels"):
        return dataset["labels"], dataset.get("regions_order") or None
    if inference.get("regions_order"):
        return {}, None
    try:
        channels = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
        labels = {name: int(number) for number, name in channels.items()}
    except (KeyError, TypeError, AttributeError, ValueError):
        return {}, None
    # regions, whose values nothing names here, have no background
    return (labels, None) if labels.get("background") == 0 else ({}, None)


def _number(column: str) -> int | None:
    digits = column.removeprefix("class")
    return int(digits) if digits.isdigit() and digits != column else None


def _rounded(text: str | None) -> str:
    try:
        return f"{float(text or ''):.3f}"
    except ValueError:
        return text or ""


def _add_settings(run: Run, root: Path, metadata: Mapping[str, Any], inference: Mapping[str, Any]) -> None:
    known = {key: metadata[key] for key in ("name", "task", "version", "intended_use") if key in metadata}
    best = read_object(root / "models" / "best.json", run.notes)
    known |= {f"best model: {key}": value for key, value in best.items()}
    network = inference.get("network_def")
    if isinstance(network, dict):
        known |= {f"network: {key.strip('_')}": value for key, value in network.items()}
    known |= {key: inference[key] for key in ("spacing", "img_size", "regions_order") if key in inference}
    run.settings.append(Listing("Settings of the bundle", ("setting", "value"), settings_rows(known)))
    versions = {key.removesuffix("_version"): metadata[key] for key in metadata if key.endswith("_version")}
    packages = versions.pop("required_packages", None)
    versions |= packages if isinstance(packages, dict) else {}
    run.settings.append(Listing("Versions that the bundle asks for", ("package", "version"), settings_rows(versions)))
