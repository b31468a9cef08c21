"""Labelled folders of every common layout, as one list of cases. Only names are looked at here, no image is opened."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["IMAGE_ENDINGS", "Case", "DatasetFolder", "read_dataset", "without_ending"]

IMAGE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
# the number that ends an image's name in nnU-Net's layout
_CHANNEL = re.compile(r"_(\d{4})$")


@dataclass(frozen=True)
class Case:
    """One labelled image; several files where each channel has its own."""

    name: str
    images: tuple[Path, ...]
    label: Path


@dataclass(frozen=True)
class DatasetFolder:
    """What a folder says about itself."""

    root: Path
    layout: str
    """nnU-Net, Decathlon or plain"""
    cases: tuple[Case, ...]
    channel_names: tuple[str, ...] = ()
    """empty where the folder does not say; the first image tells"""
    labels: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """name -> values in the label files, several for a region; background left out; empty where unknown"""
    regions_order: tuple[int, ...] = ()
    """for regions: the value that each is written as, in the order of painting; empty for plain labels"""
    ignore_label: int | None = None


def read_dataset(dataset_dir: str | Path) -> DatasetFolder:
    """Recognise a folder and list its labelled cases.

    Args:
        dataset_dir: an nnU-Net raw data set (dataset.json with `channel_names`, imagesTr, labelsTr), a task of the
            Medical Segmentation Decathlon (dataset.json with `modality` and `training`), or a folder with `images`
            and `labels` whose files bear the same names.

    Raises:
        ValueError: if it is none of these, is empty, or an image lacks its label or one of its channels.
    """
    root = Path(dataset_dir).expanduser()
    if not root.is_dir():
        msg = f"dataset_dir must be a folder; {root} is none. Give the folder of the data set with --dataset_dir"
        raise ValueError(msg)
    file = root / "dataset.json"
    if file.is_file():
        description = _read_json(file)
        folder = _decathlon(root, description) if "training" in description else _nnunet(root, description)
    elif (root / "images").is_dir() and (root / "labels").is_dir():
        folder = _plain(root)
    else:
        msg = (
            f"dataset_dir {root} is no data set: it must be an nnU-Net raw data set or a Decathlon task, with "
            "dataset.json, or hold the folders images and labels"
        )
        raise ValueError(msg)
    if not folder.cases:
        msg = (
            f"dataset_dir {root} ({folder.layout}) holds no labelled image with an ending of {', '.join(IMAGE_ENDINGS)}"
        )
        raise ValueError(msg)
    return folder


def without_ending(path: Path, ending: str | None = None) -> str:
    """File name without its image ending."""
    for known in (ending,) if ending else IMAGE_ENDINGS:
        if known and path.name.lower().endswith(known.lower()):
            return path.name[: -len(known)]
    return path.stem


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        msg = f"{file} is not valid JSON: {error}"
        raise ValueError(msg) from None
    if not isinstance(content, dict):
        msg = f"{file} must hold one JSON object; got a {type(content).__name__}"
        raise ValueError(msg)
    return content


def _nnunet(root: Path, description: dict[str, Any]) -> DatasetFolder:
    missing = [key for key in ("channel_names", "labels") if key not in description]
    if missing:
        msg = (
            f"{root / 'dataset.json'} lacks {' and '.join(missing)}: an nnU-Net data set needs channel_names, labels "
            "and file_ending, a Decathlon task modality, labels and training"
        )
        raise ValueError(msg)
    channel_names = tuple(description["channel_names"][key] for key in sorted(description["channel_names"], key=int))
    labels, ignore = _labels(root, description["labels"])
    order = tuple(int(value) for value in description.get("regions_class_order", ()))
    if any(len(values) > 1 for values in labels.values()):
        if len(order) != len(labels):
            msg = (
                f"regions_class_order in {root / 'dataset.json'} must hold one value for each of the "
                f"{len(labels)} regions; got {list(order)}"
            )
            raise ValueError(msg)
    else:
        order = ()
    ending = description.get("file_ending", ".nii.gz")
    if "dataset" in description:
        cases = [
            Case(name, tuple(_path(root, image) for image in files["images"]), _path(root, files["label"]))
            for name, files in sorted(description["dataset"].items())
        ]
    else:
        _need_folders(root, "imagesTr", "labelsTr")
        cases = _match(root / "imagesTr", root / "labelsTr", ending)
    _need_files(cases)
    for case in cases:
        if len(case.images) != len(channel_names):
            found = ", ".join(path.name for path in case.images)
            msg = (
                f"case {case.name} has {len(case.images)} of the {len(channel_names)} channels that "
                f"{root / 'dataset.json'} names: {found}"
            )
            raise ValueError(msg)
    return DatasetFolder(root, "nnU-Net", tuple(cases), channel_names, labels, order, ignore)


def _decathlon(root: Path, description: dict[str, Any]) -> DatasetFolder:
    modality = description.get("modality", {})
    channel_names = tuple(modality[key] for key in sorted(modality, key=int))
    # the Decathlon writes {value: name}
    labels, ignore = _labels(root, {name: int(value) for value, name in description.get("labels", {}).items()})
    cases = []
    for entry in description["training"]:
        image = _path(root, entry["image"])
        cases.append(Case(without_ending(image), (image,), _path(root, entry["label"])))
    _need_files(cases)
    return DatasetFolder(root, "Decathlon", tuple(cases), channel_names, labels, (), ignore)


def _plain(root: Path) -> DatasetFolder:
    return DatasetFolder(root, "plain", tuple(_match(root / "images", root / "labels", None)))


def _match(images: Path, labels: Path, ending: str | None) -> list[Case]:
    """Cases of a folder of images and one of labels with the same names, channels numbered as in nnU-Net or not."""
    endings = (ending,) if ending else IMAGE_ENDINGS
    label_of = {without_ending(path, ending): path for path in _files(labels, endings)}
    images_of: dict[str, list[Path]] = {}
    for path in _files(images, endings):
        name = without_ending(path, ending)
        # a plain folder may hold names that happen to end in four digits
        if name not in label_of:
            name = _CHANNEL.sub("", name)
        images_of.setdefault(name, []).append(path)
    unlabelled = sorted(set(images_of) - set(label_of))
    if unlabelled:
        msg = (
            f"{len(unlabelled)} of {len(images_of)} images in {images} have no label in {labels}: "
            f"{_some(unlabelled)}. A label bears the image's name, without the number of the channel"
        )
        raise ValueError(msg)
    imageless = sorted(set(label_of) - set(images_of))
    if imageless:
        msg = f"{len(imageless)} labels in {labels} have no image in {images}: {_some(imageless)}"
        raise ValueError(msg)
    return [Case(name, tuple(sorted(images_of[name])), label_of[name]) for name in sorted(images_of)]


def _labels(root: Path, entries: dict[str, Any]) -> tuple[dict[str, tuple[int, ...]], int | None]:
    """Names and values without background and ignore label."""
    labels: dict[str, tuple[int, ...]] = {}
    ignore = None
    for name, value in entries.items():
        values = tuple(int(v) for v in value) if isinstance(value, (list, tuple)) else (int(value),)
        if name == "ignore":
            ignore = values[0]
        elif values != (0,):
            labels[name] = values
    if not labels:
        msg = f"{root / 'dataset.json'} names no label besides background"
        raise ValueError(msg)
    return labels, ignore


def _files(folder: Path, endings: tuple[str, ...]) -> list[Path]:
    return sorted(
        path for path in folder.iterdir() if path.name.lower().endswith(endings) and not path.name.startswith(".")
    )


def _path(root: Path, name: str) -> Path:
    path = Path(name).expanduser()
    return path if path.is_absolute() else root / path


def _need_folders(root: Path, *names: str) -> None:
    for name in names:
        if not (root / name).is_dir():
            msg = f"{root} has a dataset.json of nnU-Net, but no folder {name}"
            raise ValueError(msg)


def _need_files(cases: list[Case]) -> None:
    missing = [path for case in cases for path in (*case.images, case.label) if not path.is_file()]
    if missing:
        msg = f"{len(missing)} files that dataset.json names do not exist: {_some([str(path) for path in missing])}"
        raise ValueError(msg)


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
