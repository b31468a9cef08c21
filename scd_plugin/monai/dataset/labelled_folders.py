"""Labelled folders of every common layout, as one list of cases. Only names are looked at here, no image is opened."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scd_plugin.channel_files import in_order, without_channel
from scd_plugin.dataset_layout import DECATHLON, RAW, layout_of, left_out
from scd_plugin.folders import read_json
from scd_plugin.monai.dataset.dataset_json import by_number, read_labels, whole_number
from scd_plugin.monai.path_option import path_option

__all__ = [
    "IMAGE_ENDINGS",
    "Case",
    "DatasetFolder",
    "image_files",
    "misnumbered",
    "namesakes",
    "read_dataset",
    "without_ending",
]

IMAGE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
_LOGGER = logging.getLogger(__name__)


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
    """those whose files are all there"""
    problems: dict[str, str] = field(default_factory=dict)
    """name -> one sentence, for the other cases"""
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
        dataset_dir: an nnU-Net raw data set or a task of the Medical Segmentation Decathlon, see `layout_of`, or a
            folder with `images` and `labels` whose files bear the same names.

    Raises:
        ValueError: if it is none of these, its dataset.json is wrong, or no case has all of its files.
    """
    root = path_option(dataset_dir)
    if not root.is_dir():
        msg = f"dataset_dir must be a folder; {root} is none. Give the folder of the data set with --dataset_dir"
        raise ValueError(msg)
    file = root / "dataset.json"
    if file.is_file():
        description = read_json(file, dict)
        folder = (_decathlon if layout_of(description, root) == DECATHLON else _nnunet)(file, description)
    elif (root / "images").is_dir() and (root / "labels").is_dir():
        folder = _plain(root)
    else:
        msg = (
            f"dataset_dir {root} is no data set: it must be an nnU-Net raw data set or a Decathlon task, with "
            "dataset.json, or hold the folders images and labels"
        )
        raise ValueError(msg)
    if not folder.cases and folder.problems:
        msg = f"no case of {root} ({folder.layout}) can be used; the first: {next(iter(folder.problems.values()))}"
        raise ValueError(msg)
    if not folder.cases:
        msg = (
            f"dataset_dir {root} ({folder.layout}) holds no labelled image with an ending of {', '.join(IMAGE_ENDINGS)}"
        )
        raise ValueError(msg)
    return folder


def without_ending(path: Path, ending: str | None = None) -> str:
    """Return a file's name without its image ending."""
    for known in (ending,) if ending else IMAGE_ENDINGS:
        if known and path.name.lower().endswith(known.lower()):
            return path.name[: -len(known)]
    return path.stem


def image_files(folder: Path, endings: tuple[str, ...] = IMAGE_ENDINGS) -> list[Path]:
    """List a folder's files with these endings, but for hidden ones; a line in the log counts what lies beside them."""
    found = sorted(
        path
        for path in folder.iterdir()
        if path.name.lower().endswith(endings) and not path.name.startswith(".") and path.is_file()
    )
    # a folder of other things, such as DICOM, is not one of images
    if found and (others := left_out(folder, found, endings)):
        _LOGGER.warning(others)
    return found


def namesakes(paths: Sequence[Path]) -> str | None:
    """Return a sentence where two files bear the same name but for their endings."""
    seen: dict[str, Path] = {}
    for path in paths:
        other = seen.setdefault(without_ending(path), path)
        if other is not path:
            return f"{other} and {path.name} are two files of one name, and nothing says which to take"
    return None


def misnumbered(name: str, paths: Sequence[Path], ending: str | None = None) -> str | None:
    """Return a sentence where the files of a case are not numbered as its channels 0, 1, ..."""
    if in_order(name, [without_ending(path, ending) for path in paths], "", len(paths)):
        return None
    found = ", ".join(path.name for path in paths)
    return f"the channels of case {name} must be numbered {name}_0000, _0001, ... without a gap; there are {found}"


def _nnunet(file: Path, description: dict[str, Any]) -> DatasetFolder:
    root, ending = file.parent, str(description["file_ending"])
    if not ending.lower().endswith(IMAGE_ENDINGS):
        msg = (
            f"{file} has the file_ending {ending}; bundles read {', '.join(IMAGE_ENDINGS)}. Train this data set with "
            "nnU-Net (nnUNetv2_train ... -tr nnUNetTrainerSCD), or convert its images"
        )
        raise ValueError(msg)
    channels = "channel_names" if "channel_names" in description else "modality"
    channel_names = tuple(by_number(file, channels, description[channels]).values())
    labels, ignore = read_labels(file, description["labels"])
    order: tuple[int, ...] = ()
    if any(len(values) > 1 for values in labels.values()):
        given = description.get("regions_class_order", [])
        if not isinstance(given, list) or len(given) != len(labels):
            msg = (
                f"regions_class_order in {file} must hold one value for each of the {len(labels)} regions; got {given}"
            )
            raise ValueError(msg)
        order = tuple(whole_number(file, "regions_class_order", value) for value in given)
    if "dataset" in description:
        cases, problems = _listed(file, description["dataset"])
    else:
        _need_folders(root, "imagesTr", "labelsTr")
        cases, problems = _match(root / "imagesTr", root / "labelsTr", ending)
    for case in cases:
        if len(case.images) != len(channel_names):
            found = ", ".join(path.name for path in case.images)
            problems[case.name] = (
                f"case {case.name} has {len(case.images)} of the {len(channel_names)} channels that {file} names: "
                f"{found}"
            )
    complete = tuple(case for case in cases if case.name not in problems)
    return DatasetFolder(root, RAW, complete, problems, channel_names, labels, order, ignore)


def _decathlon(file: Path, description: dict[str, Any]) -> DatasetFolder:
    channel_names = tuple(by_number(file, "modality", description.get("modality", {})).values())
    # the Decathlon writes {value: name}
    named = by_number(file, "labels", description.get("labels", {}))
    labels, ignore = read_labels(file, {name: value for value, name in named.items()})
    entries = description["training"]
    if not isinstance(entries, list) or not all(
        isinstance(e, dict) and isinstance(e.get("image"), str) for e in entries
    ):
        msg = f'training in {file} must be a list of {{"image": file, "label": file}}; got {str(entries)[:80]}'
        raise ValueError(msg)
    files: dict[str, dict[str, Any]] = {}
    for entry in entries:
        name = without_ending(Path(entry["image"]))
        if name in files:
            msg = (
                f"training in {file} lists {files[name]['images'][0]} and {entry['image']}, two images of one name, by "
                "which cases are told apart: rename one of them"
            )
            raise ValueError(msg)
        files[name] = {"images": [entry["image"]], "label": entry.get("label")}
    cases, problems = _listed(file, files)
    return DatasetFolder(file.parent, DECATHLON, tuple(cases), problems, channel_names, labels, (), ignore)


def _plain(root: Path) -> DatasetFolder:
    cases, problems = _match(root / "images", root / "labels", None)
    return DatasetFolder(root, "plain", tuple(cases), problems)


def _match(images: Path, labels: Path, ending: str | None) -> tuple[list[Case], dict[str, str]]:
    """Match images with labels of the same names, channels numbered as in nnU-Net or not."""
    endings = (ending,) if ending else IMAGE_ENDINGS
    labels_of: dict[str, list[Path]] = {}
    for path in image_files(labels, endings):
        labels_of.setdefault(without_ending(path, ending), []).append(path)
    images_of: dict[str, list[Path]] = {}
    for path in image_files(images, endings):
        name = without_ending(path, ending)
        # a plain folder may hold names that happen to end in four digits
        if name not in labels_of:
            name = without_channel(name)
        images_of.setdefault(name, []).append(path)
    cases, problems = [], {}
    for name in sorted({*images_of, *labels_of}):
        found, truth = images_of.get(name, []), labels_of.get(name, [])
        if not truth:
            problem: str | None = (
                f"image {found[0]} has no label in {labels}: a label bears the image's name, without the number of "
                "the channel"
            )
        elif not found:
            problem = f"label {truth[0]} has no image in {images}"
        else:
            problem = namesakes(found) or namesakes(truth) or misnumbered(name, found, ending)
        if problem:
            problems[name] = problem
        else:
            cases.append(Case(name, tuple(found), truth[0]))
    return cases, problems


def _listed(file: Path, entries: Any) -> tuple[list[Case], dict[str, str]]:
    """List the cases whose files dataset.json names."""
    if not isinstance(entries, dict):
        msg = f"dataset in {file} must be an object of cases; got {str(entries)[:80]}"
        raise ValueError(msg)
    cases, problems = [], {}
    for name, files in sorted(entries.items()):
        images, label = (files.get("images"), files.get("label")) if isinstance(files, dict) else (None, None)
        if not isinstance(label, str) or not isinstance(images, list) or not all(isinstance(i, str) for i in images):
            problems[name] = f"case {name} in {file} must name its images and its label; got {files}"
            continue
        case = Case(name, tuple(_path(file.parent, image) for image in images), _path(file.parent, label))
        missing = [str(path) for path in (*case.images, case.label) if not path.is_file()]
        if missing:
            problems[name] = f"case {name} lacks files that {file} names: {', '.join(missing)}"
        else:
            cases.append(case)
    return cases, problems


def _path(root: Path, name: str) -> Path:
    path = Path(name).expanduser()
    return path if path.is_absolute() else root / path


def _need_folders(root: Path, *names: str) -> None:
    for name in names:
        if not (root / name).is_dir():
            msg = f"{root} has a dataset.json of nnU-Net, but no folder {name}"
            raise ValueError(msg)
