"""The images of a folder as a data list of MONAI."""

from __future__ import annotations

import logging
from pathlib import Path

from scd_plugin.channel_files import channel_files, in_order
from scd_plugin.dataset_layout import left_out
from scd_plugin.monai.dataset.checks import read_header
from scd_plugin.monai.path_option import path_option

__all__ = ["list_cases"]

_LOGGER = logging.getLogger(__name__)


def list_cases(folder: str | Path, file_ending: str, num_channels: int) -> list[dict[str, list[str]]]:
    """The images of a folder, as a data list of MONAI: `{"image": [files of its channels]}` for each case, by name.

    Files must have the ending, with its dot, as in nnU-Net's dataset.json; one line in the log counts the others. Where
    no name ends in a channel number, each file is a case of its own, with all of its channels.

    Raises:
        ValueError: if there is no such folder, it holds no case, or a case lacks a channel or has one too many.
    """
    root = path_option(folder)
    if not root.is_dir():
        msg = f"dataset_dir must be a folder of images; {root} is none. Give it with --dataset_dir"
        raise ValueError(msg)
    cases = channel_files([path.name for path in root.iterdir() if path.is_file()], file_ending)
    if not cases:
        msg = (
            f"{root} holds no image: names must end in {file_ending}, as in the data set of the training, with "
            f"{num_channels} channel{'s' if num_channels > 1 else ''} as NAME_0000{file_ending}, ..."
        )
        raise ValueError(msg)
    if others := left_out(root, [root / name for files in cases.values() for name in files], (file_ending,)):
        _LOGGER.warning(others)
    for case, files in cases.items():
        # one file may hold all channels, as that of a photograph does
        shared = len(files) == 1 < num_channels and read_header(root / files[0]).channels == num_channels
        if not in_order(case, files, file_ending, 1 if shared else num_channels):
            wanted = [f"{case}_{channel:04d}{file_ending}" for channel in range(num_channels)]
            msg = (
                f"case {case} must be the files {', '.join(wanted)}, one for each channel; there are {', '.join(files)}"
            )
            raise ValueError(msg)
    return [{"image": [str(root / name) for name in files]} for files in cases.values()]
