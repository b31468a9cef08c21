"""The demo's data set: made on the spot, or a folder of the user's, with some cases held out. Light to import."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from scd_plugin.channel_files import channel_files, without_channel
from scd_plugin.dataset_layout import DECATHLON, layout_of, left_out
from scd_plugin.folders import read_json

__all__ = [
    "HELD_OUT_IMAGES",
    "HELD_OUT_LABELS",
    "check_data",
    "configuration_for",
    "hold_out",
    "images_of",
    "prepare_dataset",
    "what_is_left_out",
]

SYNTHETIC = "Dataset901_SyntheticOrgans"
CONVERTED_ID = 902
RENAMED = "decathlon"
"""Folder beside nnUNet_raw, of links to a task under a name that nnU-Net's converter can read."""
HELD_OUT_IMAGES = "imagesHeldOut"
HELD_OUT_LABELS = "labelsHeldOut"


def prepare_dataset(data: Path | None, raw: Path, run_command: Callable[..., None]) -> Path:
    """Put a data set into the demo's nnUNet_raw folder, and return its folder there. The user's own is only read.

    The data is a Medical Segmentation Decathlon task, an nnU-Net raw data set, or None for the synthetic one. The words
    of nnU-Net's converter are given to `run_command`. A folder whose name nnU-Net can't read gets another one there.

    Raises:
        ValueError: as `check_data`.
    """
    if data is None:
        from scd_plugin.demo.synthetic import write_dataset

        folder = raw / SYNTHETIC
        write_dataset(folder, num_cases=28, seed=0)
        return folder
    # links keep their own names, by which users know the data
    data = data.absolute()
    description = check_data(data)
    if layout_of(description, data) == DECATHLON:
        source = _task_with_test_folder(data, raw.parent / RENAMED)
        run_command("nnUNetv2_convert_MSD_dataset", "-i", str(source), "-overwrite_id", str(CONVERTED_ID), "-np", "2")
        return next(raw.glob(f"Dataset{CONVERTED_ID}_*"))
    readable = re.fullmatch(r"Dataset\d{3}_.+", data.name)
    folder = raw / (data.name if readable else f"Dataset{CONVERTED_ID}_{data.name}")
    ending = description["file_ending"]
    for directory in ("imagesTr", "labelsTr"):
        (folder / directory).mkdir(parents=True)
    for case, (images, label) in _training_files(data, description).items():
        for channel, image in enumerate(images):
            _link(image, folder / "imagesTr" / f"{case}_{channel:04d}{ending}", ending)
        _link(label, folder / "labelsTr" / f"{case}{ending}", ending)
    own = {key: value for key, value in description.items() if key != "dataset"}
    (folder / "dataset.json").write_text(json.dumps(own, indent=2))
    return folder


def _link(file: Path, link: Path, ending: str) -> None:
    """Link an image, which is large and only read, and the spacing that nnU-Net keeps beside TIFF files."""
    link.symlink_to(file)
    sidecar, beside = (_sidecar(path, ending) for path in (file, link))
    if sidecar.is_file() and not beside.is_symlink():
        beside.symlink_to(sidecar)


def _sidecar(file: Path, ending: str) -> Path:
    return file.with_name(f"{without_channel(file.name.removesuffix(ending))}.json")


def check_data(data: Path) -> dict[str, Any]:
    """Read the `dataset.json` of a Decathlon task or an nnU-Net raw data set, and check that the demo can use it.

    Raises:
        ValueError: if it is neither, its `dataset.json` is damaged or lacks keys, a file is missing, or an image was
            cut off or holds voxels of NaN.
    """
    file = data / "dataset.json"
    if not file.is_file():
        msg = (
            "the data must be a Medical Segmentation Decathlon task or an nnU-Net raw data set, a folder with "
            f"dataset.json, imagesTr, labelsTr; {data} lacks dataset.json"
        )
        raise ValueError(msg)
    description = read_json(file, dict)
    kind = layout_of(description, data)
    folders = [data / name for name in ("imagesTr", "labelsTr")]
    if "dataset" not in description and (missing := [path.name for path in folders if not path.is_dir()]):
        msg = f"{data} has a dataset.json, but no folder {', '.join(missing)}"
        raise ValueError(msg)
    if kind == DECATHLON:
        files = [path for folder in folders for path in folder.iterdir() if path.is_file()]
    else:
        cases = _training_files(data, description).values()
        files = [path for images, label in cases for path in (*images, label)]
    from scd_plugin.voxel_values import unusable_files

    if problems := unusable_files(sorted(files)):
        more = len(problems) - 1
        others = f"; so {'is 1 other' if more == 1 else f'are {more} others'}, see scd doctor {data}" if more else ""
        msg = f"{problems[0]}{others}"
        raise ValueError(msg)
    return description


def what_is_left_out(data: Path) -> list[str]:
    """Count, in a line for each folder, what the demo does not take of a raw data set that `check_data` has passed."""
    description = read_json(data / "dataset.json", dict)
    if "dataset" in description or layout_of(description, data) == DECATHLON:
        return []
    taken = [path for images, label in _training_files(data, description).values() for path in (*images, label)]
    lines = (left_out(data / name, taken, (description["file_ending"],)) for name in ("imagesTr", "labelsTr"))
    return [line for line in lines if line]


def _training_files(data: Path, description: Mapping[str, Any]) -> dict[str, tuple[list[Path], Path]]:
    """List images, a file for each channel, and label map of each case of a raw data set.

    Raises:
        ValueError: if a file is missing.
    """
    if "dataset" in description:
        from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

        # it writes whole paths into what it is given
        listed = get_filenames_of_train_images_and_targets(str(data), deepcopy(dict(description)))
        cases = {name: (list(map(Path, case["images"])), Path(case["label"])) for name, case in listed.items()}
    else:
        ending, images, labels = description["file_ending"], data / "imagesTr", data / "labelsTr"
        found = channel_files([path.name for path in images.iterdir() if path.is_file()], ending)
        cases = {name: ([images / file for file in files], labels / f"{name}{ending}") for name, files in found.items()}
    for name, (files, label) in cases.items():
        if missing := [str(path) for path in (*files, label) if not path.is_file()]:
            msg = f"case {name} of {data} lacks {', '.join(missing)}; add what is missing, or take the case away"
            raise ValueError(msg)
    return cases


def _task_with_test_folder(data: Path, beside: Path) -> Path:
    """Return the task, or links to it under a name and with a folder imagesTs, as nnU-Net's converter insists on."""
    readable = re.fullmatch(r"Task\d+_[^_]+", data.name)
    if readable and (data / "imagesTs").is_dir():
        return data
    # the converter splits the name at its underscore
    folder = beside / (data.name if readable else f"Task{CONVERTED_ID}_{data.name.replace('_', '-')}")
    folder.mkdir(parents=True)
    for item in data.iterdir():
        (folder / item.name).symlink_to(item)
    (folder / "imagesTs").mkdir(exist_ok=True)
    return folder


def hold_out(folder: Path) -> list[str]:
    """Move every seventh case (at most 8) of a raw data set out of its training folders, for the final evaluation.

    Returns the names of these cases.

    Raises:
        ValueError: if there are fewer than 7 cases.
    """
    description = read_json(folder / "dataset.json", dict)
    ending = description["file_ending"]
    cases = _training_files(folder, description)
    held = sorted(cases)[6::7][:8]
    if not held:
        msg = f"the demo needs at least 7 labelled cases, to train on 6 and hold out 1; {folder} has {len(cases)}"
        raise ValueError(msg)
    apart = [folder / HELD_OUT_IMAGES, folder / HELD_OUT_LABELS]
    for target in apart:
        target.mkdir()
    for files, label in map(cases.__getitem__, held):
        for moved, target in zip((files, [label]), apart):
            for file in [*moved, _sidecar(moved[0], ending)]:
                if file.is_file():
                    file.rename(target / file.name)
    description["numTraining"] = len(cases) - len(held)
    (folder / "dataset.json").write_text(json.dumps(description, indent=2))
    return held


def images_of(case: str, folder: Path, ending: str) -> list[Path]:
    """List the files of a case in a folder, one for each channel."""
    return [folder / name for name in channel_files([path.name for path in folder.iterdir()], ending)[case]]


def configuration_for(folder: Path) -> str:
    """Return `3d_fullres`, or `2d` where the images are flat."""
    import SimpleITK as sitk

    ending = read_json(folder / "dataset.json", dict)["file_ending"]
    name = next(path.name for path in (folder / "imagesTr").iterdir() if path.name.endswith(ending))
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(folder / "imagesTr" / name))
    reader.ReadImageInformation()
    size = reader.GetSize()
    return "2d" if len(size) < 3 or min(size) == 1 else "3d_fullres"
