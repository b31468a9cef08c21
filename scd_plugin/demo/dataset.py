"""The demo's data set: made on the spot, or a folder of the user's, with some cases held out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import SimpleITK as sitk

from scd_plugin.demo.synthetic import write_dataset

__all__ = ["HELD_OUT_IMAGES", "HELD_OUT_LABELS", "configuration_for", "hold_out", "prepare_dataset"]

SYNTHETIC = "Dataset901_SyntheticOrgans"
CONVERTED_ID = 902
HELD_OUT_IMAGES = "imagesHeldOut"
HELD_OUT_LABELS = "labelsHeldOut"


def prepare_dataset(data: Path | None, raw: Path, run_command: Callable[..., None]) -> Path:
    """Put a data set into the demo's nnUNet_raw folder. The user's own folder is only read.

    Args:
        data: a Medical Segmentation Decathlon task, an nnU-Net raw data set, or None for the synthetic one.
        raw: the demo's nnUNet_raw folder.
        run_command: called with a command's words, for nnU-Net's converter.

    Returns:
        The data set folder inside `raw`.

    Raises:
        ValueError: if `data` is neither kind of folder.
    """
    if data is None:
        folder = raw / SYNTHETIC
        write_dataset(folder, num_cases=28, seed=0)
        return folder
    data = data.resolve()
    description_file = data / "dataset.json"
    if not description_file.is_file() or not (data / "imagesTr").is_dir():
        msg = (
            "the data must be a Medical Segmentation Decathlon task or an nnU-Net raw data set, a folder with "
            f"dataset.json and imagesTr; {data} is not"
        )
        raise ValueError(msg)
    description = json.loads(description_file.read_text(encoding="utf-8"))
    if "modality" in description:
        source = _with_test_folder(data, raw.parent / "decathlon")
        run_command("nnUNetv2_convert_MSD_dataset", "-i", str(source), "-overwrite_id", str(CONVERTED_ID), "-np", "2")
        return next(raw.glob(f"Dataset{CONVERTED_ID}_*"))
    if not re.fullmatch(r"Dataset\d{3}_\w+", data.name) or "dataset" in description:
        msg = (
            f"an nnU-Net raw data set must be called DatasetNNN_Name and list no files in dataset.json for this demo; "
            f"got {data}"
        )
        raise ValueError(msg)
    folder = raw / data.name
    for directory in ("imagesTr", "labelsTr"):
        (folder / directory).mkdir(parents=True)
        for file in sorted((data / directory).iterdir()):
            # images are large and only read
            (folder / directory / file.name).symlink_to(file)
    (folder / "dataset.json").write_text(description_file.read_text(encoding="utf-8"))
    return folder


def _with_test_folder(data: Path, beside: Path) -> Path:
    """The task itself, or links to it with an empty imagesTs: nnU-Net's converter insists on that folder."""
    if (data / "imagesTs").is_dir():
        return data
    folder = beside / data.name
    (folder / "imagesTs").mkdir(parents=True)
    for item in data.iterdir():
        (folder / item.name).symlink_to(item)
    return folder


def hold_out(folder: Path) -> list[str]:
    """Move every seventh case (at most 8) out of the training folders, for the final evaluation.

    Args:
        folder: nnU-Net raw data set with at least 7 cases; changed in place.

    Returns:
        Names of the cases held out.

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
    for images, labels in ((folder / HELD_OUT_IMAGES, folder / HELD_OUT_LABELS),):
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
    """`3d_fullres`, or `2d` where the images are flat."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(next((folder / "imagesTr").iterdir())))
    reader.ReadImageInformation()
    size = reader.GetSize()
    return "2d" if len(size) < 3 or min(size) == 1 else "3d_fullres"
