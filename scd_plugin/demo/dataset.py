"""The demo's data set: made on the spot, or a folder of the user's, with some cases held out. Light to import."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scd_plugin.folders import read_json

__all__ = ["HELD_OUT_IMAGES", "HELD_OUT_LABELS", "check_data", "configuration_for", "hold_out", "prepare_dataset"]

SYNTHETIC = "Dataset901_SyntheticOrgans"
CONVERTED_ID = 902
HELD_OUT_IMAGES = "imagesHeldOut"
HELD_OUT_LABELS = "labelsHeldOut"
# What dataset.json must hold: nnU-Net's own, and a Decathlon task's, which nnU-Net converts.
RAW_KEYS = ("channel_names", "labels", "file_ending")
DECATHLON_KEYS = ("modality", "labels", "training", "test")


def prepare_dataset(data: Path | None, raw: Path, run_command: Callable[..., None]) -> Path:
    """Put a data set into the demo's nnUNet_raw folder, and return its folder there. The user's own is only read.

    The data is a Medical Segmentation Decathlon task, an nnU-Net raw data set, or None for the synthetic one. The words
    of nnU-Net's converter are given to `run_command`.

    Raises:
        ValueError: as `check_data`.
    """
    if data is None:
        from scd_plugin.demo.synthetic import write_dataset

        folder = raw / SYNTHETIC
        write_dataset(folder, num_cases=28, seed=0)
        return folder
    data = data.resolve()
    if "modality" in check_data(data):
        source = _with_test_folder(data, raw.parent / "decathlon")
        run_command("nnUNetv2_convert_MSD_dataset", "-i", str(source), "-overwrite_id", str(CONVERTED_ID), "-np", "2")
        return next(raw.glob(f"Dataset{CONVERTED_ID}_*"))
    folder = raw / data.name
    for directory in ("imagesTr", "labelsTr"):
        (folder / directory).mkdir(parents=True)
        for file in sorted((data / directory).iterdir()):
            # images are large and only read
            (folder / directory / file.name).symlink_to(file)
    (folder / "dataset.json").write_bytes((data / "dataset.json").read_bytes())
    return folder


def check_data(data: Path) -> dict[str, Any]:
    """Read the `dataset.json` of a Decathlon task or an nnU-Net raw data set, and check that the demo can use it.

    Raises:
        ValueError: if it is neither, is not named as nnU-Net asks for, its `dataset.json` is damaged or lacks keys, or
            an image was cut off.
    """
    data = data.resolve()
    file = data / "dataset.json"
    present = {"dataset.json": file.is_file(), **{name: (data / name).is_dir() for name in ("imagesTr", "labelsTr")}}
    if not all(present.values()):
        msg = (
            "the data must be a Medical Segmentation Decathlon task or an nnU-Net raw data set, a folder with "
            f"{', '.join(present)}; {data} lacks {', '.join(name for name, there in present.items() if not there)}"
        )
        raise ValueError(msg)
    description = read_json(file)
    if not isinstance(description, dict):
        msg = f"{file} must hold one JSON object; got a {type(description).__name__}"
        raise ValueError(msg)
    decathlon = "modality" in description
    missing = [key for key in (DECATHLON_KEYS if decathlon else RAW_KEYS) if key not in description]
    if missing:
        msg = (
            f"{file} lacks {', '.join(missing)}: an nnU-Net raw data set needs {', '.join(RAW_KEYS)}, a Decathlon task "
            f"{', '.join(DECATHLON_KEYS)}"
        )
        raise ValueError(msg)
    _check_name(data, decathlon=decathlon)
    if "dataset" in description:
        msg = (
            f"{file} lists its files under 'dataset', which this demo does not read; put them in imagesTr and labelsTr"
        )
        raise ValueError(msg)
    from scd_plugin.complete_files import cut_off_files

    images = sorted(path for name in ("imagesTr", "labelsTr") for path in (data / name).iterdir() if path.is_file())
    if problems := cut_off_files(images):
        more = len(problems) - 1
        others = f"; so {'is 1 other' if more == 1 else f'are {more} others'}, see scd doctor {data}" if more else ""
        msg = f"{problems[0]}{others}"
        raise ValueError(msg)
    return description


def _check_name(data: Path, *, decathlon: bool) -> None:
    """Refuse names that nnU-Net can't read: it takes numbers from them, and splits a task's at the underscore."""
    pattern, form = (r"Task\d+_[^_]+", "TaskNN_Name") if decathlon else (r"Dataset\d{3}_.+", "DatasetNNN_Name")
    if not re.fullmatch(pattern, data.name):
        kind = "a Decathlon task" if decathlon else "an nnU-Net raw data set"
        what = ", one underscore in all," if decathlon else ""
        msg = f"{kind} must be called {form}{what} for nnU-Net to read it; rename {data}"
        raise ValueError(msg)


def _with_test_folder(data: Path, beside: Path) -> Path:
    """Return the task, or links to it with an empty imagesTs, the folder that nnU-Net's converter insists on."""
    if (data / "imagesTs").is_dir():
        return data
    folder = beside / data.name
    (folder / "imagesTs").mkdir(parents=True)
    for item in data.iterdir():
        (folder / item.name).symlink_to(item)
    return folder


def hold_out(folder: Path) -> list[str]:
    """Move every seventh case (at most 8) of a raw data set out of its training folders, for the final evaluation.

    Returns the names of these cases.

    Raises:
        ValueError: if there are fewer than 7 cases.
    """
    description = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    ending = description["file_ending"]
    cases = sorted(file.name.removesuffix(ending) for file in (folder / "labelsTr").glob(f"*{ending}"))
    held = cases[6::7][:8]
    if not held:
        msg = f"the demo needs at least 7 labelled cases, to train on 6 and hold out 1; {folder} has {len(cases)}"
        raise ValueError(msg)
    images, labels = folder / HELD_OUT_IMAGES, folder / HELD_OUT_LABELS
    images.mkdir()
    labels.mkdir()
    for case in held:
        for file in sorted((folder / "imagesTr").glob(f"{case}_[0-9][0-9][0-9][0-9]{ending}")):
            file.rename(images / file.name)
        (folder / "labelsTr" / f"{case}{ending}").rename(labels / f"{case}{ending}")
    description["numTraining"] = len(cases) - len(held)
    (folder / "dataset.json").write_text(json.dumps(description, indent=2))
    return held


def configuration_for(folder: Path) -> str:
    """Return `3d_fullres`, or `2d` where the images are flat."""
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(next((folder / "imagesTr").iterdir())))
    reader.ReadImageInformation()
    size = reader.GetSize()
    return "2d" if len(size) < 3 or min(size) == 1 else "3d_fullres"
