"""Groups image files as nnU-Net names them: one file for each channel, NAME_0000, NAME_0001, ..."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

__all__ = ["case_name", "channel_files", "in_order", "without_channel"]

_CHANNEL = re.compile(r"_\d{4}\Z")


def channel_files(names: Iterable[str], file_ending: str) -> dict[str, list[str]]:
    """Group the files with an ending, such as `".nii.gz"`, by case and in the order of channels; hidden ones are none.

    Where no name ends in a channel number, each file is a case of its own; beside names that do, others are left out.
    """
    fitting = sorted(name for name in names if name.endswith(file_ending) and not name.startswith("."))
    numbered = re.compile(rf"(.+)_\d{{4}}{re.escape(file_ending)}", re.DOTALL)
    matches = [match for match in map(numbered.fullmatch, fitting) if match]
    if not matches:
        return {name.removesuffix(file_ending): [name] for name in fitting if name != file_ending}
    cases: dict[str, list[str]] = {}
    for match in matches:
        cases.setdefault(match[1], []).append(match[0])
    return cases


def in_order(case: str, files: Sequence[str], file_ending: str, num_files: int) -> bool:
    """Whether a case has exactly the files of channels 0, 1, ..., or the one file without a channel number."""
    numbered = [f"{case}_{channel:04d}{file_ending}" for channel in range(num_files)]
    return list(files) == numbered or (num_files == 1 and list(files) == [case + file_ending])


def without_channel(name: str) -> str:
    """Take the channel number off a name that has no ending any more."""
    return _CHANNEL.sub("", name)


def case_name(path: str, endings: Sequence[str]) -> str:
    """Name of a case from one of its files: without folder, ending and channel number."""
    name = Path(path).name
    ending = max((ending for ending in endings if name.endswith(ending)), key=len, default=Path(name).suffix)
    return without_channel(name.removesuffix(ending))
