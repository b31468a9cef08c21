"""Images to segment: files of any common format, one folder per DICOM series, or the test images of a data set."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.data.folder_layout import default_name_formatter
from monai.transforms import Transform

from scd_plugin.channel_files import without_channel
from scd_plugin.dicom_series import check_series, series_folders
from scd_plugin.monai.dataset.checks import apart, check_image, read_header
from scd_plugin.monai.dataset.labelled_folders import (
    IMAGE_ENDINGS,
    image_files,
    misnumbered,
    namesakes,
    without_ending,
)
from scd_plugin.monai.path_option import path_option

__all__ = ["list_images", "output_name"]

# where data sets keep what is to be predicted, best first
_SUBFOLDERS = ("imagesTs", "images", "imagesTr")
_LOGGER = logging.getLogger(__name__)


def list_images(dataset_dir: str | Path, *, channels: int, skip_bad: bool = False) -> list[dict[str, Any]]:
    """List the images to segment.

    Args:
        dataset_dir: an image file; a folder of NIfTI, NRRD, MHA or MHD files, channels in files of their own
            (NAME_0000, NAME_0001, as in nnU-Net) or not; a DICOM series; a folder of such, also of patients and
            studies; or a data set, whose imagesTs, images or imagesTr is taken.
        channels: how many the network takes.
        skip_bad: leave images that can't be used out, and log each of them, instead of refusing all.

    Returns:
        A dict for each, whose `image` is its path; a list of paths where channels have files of their own.

    Raises:
        ValueError: if nothing is found, two results would be one file, or, without `skip_bad`, an image can't be used.
    """
    root = path_option(dataset_dir)
    if root.is_file():
        groups = [[root]]
    elif root.is_dir():
        groups = _groups(_image_folder(root), channels)
    else:
        msg = f"dataset_dir must be an image or a folder of images; {root} is neither. Give it with --dataset_dir"
        raise ValueError(msg)
    if not groups:
        msg = f"{root} holds no image: neither a file with an ending of {', '.join(IMAGE_ENDINGS)} nor a DICOM series"
        raise ValueError(msg)
    usable = []
    for group in groups:
        try:
            _check(group, channels)
        except ValueError as error:
            if not skip_bad:
                msg = f"{error}. Mend it, take it away, or leave such images out with --skip_bad True"
                raise ValueError(msg) from None
            _LOGGER.warning("left out: %s", error)
            continue
        paths = [str(path) for path in group]
        usable.append({"image": paths[0] if len(paths) == 1 else paths})
    if not usable:
        msg = f"none of the {len(groups)} images in {root} can be used"
        raise ValueError(msg)
    _check_names(usable)
    return usable


def output_name(meta: Mapping[str, Any] | None, saver: Transform) -> dict[str, Any]:
    """Name a result by all of its image's name, as `SaveImaged`'s `output_name_formatter`.

    MONAI takes the last dotted part of a name for its ending, so that the folders 1.2.840.4 and 1.2.840.5 of two DICOM
    series would be written to one file.

    Args:
        meta: of the image.
        saver: the transform that writes.
    """
    names = default_name_formatter(dict(meta or {}), saver)
    return {**names, "subject": f"{_name(names['subject'])}.nii.gz"}


def _name(image: str) -> str:
    # a series' folder may be given as "."; links keep their own names
    path = Path(os.path.abspath(image))  # noqa: PTH100
    return path.name if path.is_dir() else without_ending(path)


def _check_names(entries: Sequence[Mapping[str, Any]]) -> None:
    seen: dict[str, str] = {}
    for entry in entries:
        image = entry["image"] if isinstance(entry["image"], str) else entry["image"][0]
        other = seen.setdefault(_name(image), image)
        if other is not image:
            msg = f"the results of {other} and {image} would be one file: rename one of them, or infer one by one"
            raise ValueError(msg)


def _image_folder(root: Path) -> Path:
    if (root / "dataset.json").is_file() or (root / "labels").is_dir():
        for name in _SUBFOLDERS:
            folder = root / name
            if folder.is_dir() and any(folder.iterdir()):
                return folder
    return root


def _groups(folder: Path, channels: int) -> list[list[Path]]:
    """Group the files that make one image; or list the folders, each a DICOM series."""
    if files := image_files(folder):
        cases: dict[str, list[Path]] = {}
        for path in files:
            name = without_ending(path)
            cases.setdefault(without_channel(name) if channels > 1 else name, []).append(path)
        # a number at the end of a name may be one of the patient's
        return [
            part
            for case in cases.values()
            for part in ([[path] for path in case] if _are_whole(case, channels) else [case])
        ]
    return [[place] for place in series_folders(folder)]


def _are_whole(paths: Sequence[Path], channels: int) -> bool:
    """Whether each of several files, of different names, holds all channels."""
    if len(paths) == 1 or namesakes(paths):
        return False
    try:
        return all(read_header(path).channels == channels for path in paths)
    except ValueError:
        # said where each image is checked
        return False


def _check_details(folder: Path) -> None:
    """Refuse a series of which MONAI's reader would take a part: it also goes by what slices say of themselves."""
    # for DICOM alone, and not quick to import
    import itk

    names = itk.GDCMSeriesFileNames.New()
    names.SetUseSeriesDetails(True)
    names.AddSeriesRestriction("0008|0021")
    names.SetDirectory(str(folder))
    parts = [len(names.GetFileNames(part)) for part in names.GetSeriesUIDs()]
    if len(parts) > 1:
        msg = (
            f"DICOM series {folder} is read in {len(parts)} parts, of {', '.join(map(str, parts))} slices: they "
            "differ in series number, date, sequence name, slice thickness or size. Make one file of it, such as "
            "NIfTI, and give that"
        )
        raise ValueError(msg)


def _check(group: Sequence[Path], channels: int) -> None:
    if group[0].is_dir():
        check_series(group[0])
        _check_details(group[0])
        if channels != 1:
            msg = f"DICOM series {group[0]} has one channel where the network takes {channels}"
            raise ValueError(msg)
        return
    name = without_ending(group[0])
    problem = namesakes(group) or (misnumbered(without_channel(name), group) if len(group) > 1 else None)
    if problem:
        raise ValueError(problem)
    headers = [read_header(path) for path in group]
    for path, header in zip(group, headers):
        check_image(path, header)
    name = ", ".join(str(path) for path in group)
    found = sum(header.channels for header in headers)
    if found != channels:
        msg = f"image {name} has {found} channels where the network takes {channels}"
        raise ValueError(msg)
    if problem := apart(group, headers):
        raise ValueError(problem)
