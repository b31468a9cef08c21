"""The path that a bundle's option holds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

__all__ = ["dataset_path"]


def dataset_path(given: Any) -> Path:
    """Return a path, of a whole number too: on the command line the name 2024 becomes one.

    Raises:
        ValueError: if it is anything else that is no text, from which the name can't be told.
    """
    if isinstance(given, int) and not isinstance(given, bool):
        given = str(given)
    if not isinstance(given, (str, os.PathLike)):
        msg = f"dataset_dir must be a path; it arrives as {given!r} ({type(given).__name__}): write it as ./NAME"
        raise ValueError(msg)
    return Path(given).expanduser()
