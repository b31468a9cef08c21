"""The path that an option holds, where Fire makes Python values of what is typed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

__all__ = ["path_option"]


def path_option(given: Any, name: str = "dataset_dir") -> Path:
    """Return a path, of a whole number too: on the command line the name 2024 becomes one.

    Raises:
        ValueError: if it is empty, or anything else that is no text, from which the path can't be told; `name` says
            which option.
    """
    if isinstance(given, int) and not isinstance(given, bool):
        given = str(given)
    if given == "":
        msg = f"{name} is empty, as where a variable of the shell is not set: give a path"
        raise ValueError(msg)
    if not isinstance(given, (str, os.PathLike)):
        msg = f"{name} must be a path; it arrives as {given!r} ({type(given).__name__}): write it as ./NAME"
        raise ValueError(msg)
    return Path(given).expanduser()
