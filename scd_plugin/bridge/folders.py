"""Folders that models and bundles are written to."""

from __future__ import annotations

from pathlib import Path

__all__ = ["empty_folder"]


def empty_folder(path: str | Path) -> Path:
    """Make a folder, unless it is there and empty.

    Raises:
        ValueError: if it holds something, or is a file: nothing is written over.
    """
    folder = Path(path).expanduser()
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        msg = f"{folder} is there already and not empty; nothing is written over, so name a new folder"
        raise ValueError(msg)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
