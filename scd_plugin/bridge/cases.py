"""Images of a folder as nnU-Net names them: one file for each channel, NAME_0000, NAME_0001, ..."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

__all__ = ["case_name", "group_channels", "list_cases"]


def group_channels(names: Iterable[str], file_ending: str, num_channels: int) -> dict[str, list[str]]:
    """Files that make one case each.

    Args:
        names: file names; those with another ending are left out.
        file_ending: with its dot, for example `".nii.gz"`.
        num_channels: files that a case must have.

    Returns:
        Case to its files, channel 0 first. Where one channel is wanted and no name ends in a channel number, each file
        is a case of its own.

    Raises:
        ValueError: if a case lacks a channel or has one too many.
    """
    fitting = sorted(name for name in names if name.endswith(file_ending))
    numbered = re.compile(rf"(.+)_(\d{{4}}){re.escape(file_ending)}")
    matches = [match for match in map(numbered.fullmatch, fitting) if match]
    if num_channels == 1 and not matches:
        return {name.removesuffix(file_ending): [name] for name in fitting}
    cases: dict[str, list[str]] = {}
    for match in matches:
        cases.setdefault(match[1], []).append(match[0])
    for case, files in cases.items():
        wanted = [f"{case}_{channel:04d}{file_ending}" for channel in range(num_channels)]
        if files != wanted:
            msg = (
                f"case {case} must be the files {', '.join(wanted)}, one for each channel; there are {', '.join(files)}"
            )
            raise ValueError(msg)
    return cases


def list_cases(folder: str | Path, file_ending: str, num_channels: int) -> list[dict[str, list[str]]]:
    """The images of a folder, as a data list of MONAI.

    Args:
        folder: where they are.
        file_ending: as in nnU-Net's dataset.json.
        num_channels: of the network.

    Returns:
        One `{"image": [files of its channels]}` for each case, by name.

    Raises:
        ValueError: if the folder is none, holds no case, or one that lacks a channel.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        msg = f"dataset_dir must be a folder of images; {root} is none. Give it with --dataset_dir"
        raise ValueError(msg)
    cases = group_channels([path.name for path in root.iterdir() if path.is_file()], file_ending, num_channels)
    if not cases:
        msg = (
            f"{root} holds no image: names must end in {file_ending}, as in the data set of the training, with "
            f"{num_channels} channel{'s' if num_channels > 1 else ''} as NAME_0000{file_ending}, ..."
        )
        raise ValueError(msg)
    return [{"image": [str(root / name) for name in files]} for files in cases.values()]


def case_name(path: str, endings: Sequence[str]) -> str:
    """Name of a case from one of its files: without folder, ending and channel number."""
    name = Path(path).name
    ending = max((ending for ending in endings if name.endswith(ending)), key=len, default=Path(name).suffix)
    return re.sub(r"_\d{4}$", "", name.removesuffix(ending))
