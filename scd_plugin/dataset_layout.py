"""Which kind of data set a folder is, by what its dataset.json says, and what lies in it that is not taken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["DECATHLON", "RAW", "layout_of", "left_out"]

RAW, DECATHLON = "nnU-Net", "Decathlon"
# What dataset.json must hold: nnU-Net's own, and a task's of the Medical Segmentation Decathlon.
_KEYS = {RAW: ("channel_names", "labels", "file_ending"), DECATHLON: ("modality", "labels", "training")}
_V1_ENDING = ".nii.gz"
_SIDECARS = "JSON files"


def layout_of(description: Mapping[str, Any], folder: Path) -> str:
    """Tell a raw data set of nnU-Net from a Decathlon task as nnU-Net does: the former names its channels or ending.

    What else stands there, such as `modality` or `training` of the task that it was made of, nnU-Net does not look at.

    Args:
        description: the content of dataset.json.
        folder: that of dataset.json, for messages and to look for files.

    Raises:
        ValueError: if it is neither, or a task of nnU-Net's first version.
    """
    file = folder / "dataset.json"
    kind = RAW if description.keys() & {"channel_names", "file_ending"} else DECATHLON
    missing = [key for key in _KEYS[kind] if key not in description]
    if kind == RAW and "channel_names" in missing and "modality" in description:
        # nnU-Net takes the old word, too
        missing.remove("channel_names")
    if missing:
        needs = "; ".join(f"{name} needs {', '.join(keys)}" for name, keys in _KEYS.items())
        msg = f"{file} lacks {', '.join(missing)} ({needs})"
        raise ValueError(msg)
    if kind == DECATHLON and _numbered(description["training"], folder):
        number = "".join(filter(str.isdigit, folder.name.partition("_")[0])) or "1"
        name = folder.name.partition("_")[2] or folder.name
        msg = (
            f"{folder} is a task of nnU-Net v1: its files have channel numbers, which dataset.json leaves out. Convert "
            f"it: nnUNetv2_convert_old_nnUNet_dataset {folder} Dataset{int(number):03d}_{name}"
        )
        raise ValueError(msg)
    return kind


def _numbered(entries: Any, folder: Path) -> bool:
    """Whether the first image that is listed exists with a channel number alone."""
    first = entries[0] if isinstance(entries, list) and entries else None
    image = first.get("image") if isinstance(first, Mapping) else first
    if not isinstance(image, str) or not image.endswith(_V1_ENDING):
        return False
    path = folder / image
    return not path.exists() and path.with_name(f"{path.name.removesuffix(_V1_ENDING)}_0000{_V1_ENDING}").exists()


def left_out(folder: Path, taken: Iterable[Path], endings: Sequence[str]) -> str:
    """Count, in one line, what a folder of images holds besides the files that are taken; empty if nothing.

    Args:
        folder: looked at, but for what lies deeper.
        taken: paths in it.
        endings: of image files.
    """
    known = set(taken)
    others = Counter(_kind(path, endings) for path in folder.iterdir() if path not in known)
    # nnU-Net keeps the spacing of TIFF files beside them
    if any(ending.startswith(".tif") for ending in endings):
        del others[_SIDECARS]
    found = ", ".join(f"{kind}: {number}" for kind, number in sorted(others.items()))
    return f"left out of {folder}: {found}" if found else ""


def _kind(path: Path, endings: Sequence[str]) -> str:
    if not path.exists():
        return "links that lead nowhere"
    if path.is_dir():
        return "folders"
    if path.name.startswith("."):
        return "hidden files"
    if path.name.lower().endswith(tuple(endings)):
        return "images without a channel number (NAME_0000) beside images with one"
    return _SIDECARS if path.suffix == ".json" else "files of other endings"
