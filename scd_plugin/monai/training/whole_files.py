"""Files that are whole or not there: a process killed while it writes, or a full disk, leaves the one before."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO


def write_whole(file: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file beside its place, with `.partial` behind its name, and put it there when it is complete.

    Ignite's `DiskSaver(atomic=True)` does so under random names, which pile up when processes are killed.

    Args:
        file: replaced, or left as it is.
        write: writes the content into an open file.

    Raises:
        OSError: a sentence with file and reason, if it can't be written.
    """
    partial = file.with_name(f"{file.name}.partial")
    try:
        with partial.open("wb") as stream:
            write(stream)
            # some file systems say only now that they are full; and without it a power cut can leave an empty file
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(file)
    except (OSError, RuntimeError) as error:
        msg = f"{file} can't be written ({_reason(error)}); what was there is kept: mend that, go on with --resume True"
        raise OSError(msg) from error
    finally:
        partial.unlink(missing_ok=True)


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Write JSON with `write_whole`."""
    write_whole(file, lambda stream: stream.write((json.dumps(content, indent=4) + "\n").encode()))


def _reason(error: BaseException) -> str:
    # torch.save raises an error about positions in the file while it handles the disk's own
    cause = error.__context__ if isinstance(error.__context__, OSError) else error
    return getattr(cause, "strerror", None) or str(cause).partition("\n")[0]
