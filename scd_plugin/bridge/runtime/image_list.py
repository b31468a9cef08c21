"""The images of a folder as a data list of MONAI."""

from __future__ import annotations

from pathlib import Path

from scd_plugin.monai.path_option import path_option
from scd_plugin.nnunet.model.channel_files import channel_files, in_order

__all__ = ["list_cases"]


def list_cases(folder: str | Path, file_ending: str, num_channels: int) -> list[dict[str, list[str]]]:
    """The images of a folder, as a data list of MONAI: `{"image": [files of its channels]}` for each case, by name.

    Files must have the ending, with its dot, as in nnU-Net's dataset.json; others are left out. Where one channel is
    wanted and no name ends in a channel number, each file is a case of its own.

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
    for case, files in cases.items():
        if not in_order(case, files, file_ending, num_channels):
            wanted = [f"{case}_{channel:04d}{file_ending}" for channel in range(num_channels)]
            msg = (
                f"case {case} must be the files {', '.join(wanted)}, one for each channel; there are {', '.join(files)}"
            )
            raise ValueError(msg)
    return [{"image": [str(root / name) for name in files]} for files in cases.values()]
