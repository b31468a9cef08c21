"""Files and folders that are whole or not there: a killed process or a full disk leaves what was there before."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from scd_plugin.folders import PARTIAL

__all__ = ["in_words", "moved_into_place", "whole_folder", "write_json", "write_whole"]


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
        msg = (
            f"{file} can't be written ({in_words(error)}); what was there is kept: mend that, go on with --resume True"
        )
        raise OSError(msg) from error
    finally:
        partial.unlink(missing_ok=True)


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Write JSON with `write_whole`."""
    write_whole(file, lambda stream: stream.write((json.dumps(content, indent=4) + "\n").encode()))


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Fill a folder that is empty or not there yet; where that fails, it is left as it was.

    Yields a folder to write to, whose content is moved up at the end.

    Raises:
        OSError: a sentence with folder and reason, if it can't be written.
    """
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    partial = folder / PARTIAL
    try:
        # of a process that was killed
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        for path in partial.iterdir():
            path.rename(folder / path.name)
        partial.rmdir()
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        with suppress(OSError):
            for one in made:
                one.rmdir()
        if isinstance(error, (OSError, RuntimeError)):
            msg = f"{folder} can't be written ({in_words(error)}); nothing is left there: mend that, and do it again"
            raise OSError(msg) from error
        raise


@contextmanager
def moved_into_place(file: Path, *, room: int = 0) -> Iterator[Path]:
    """Write a file, and others beside it, under the same names in a folder beside, and move all into place at the end.

    Yields where to write the file. For writers that take no open file, or depend on the name; see `write_whole`.

    Args:
        file: where it goes.
        room: bytes that must be free, for writers that abort the process where they are not.

    Raises:
        OSError: a sentence with file and reason, if it can't be written.
    """
    try:
        with TemporaryDirectory(dir=file.parent, prefix=PARTIAL) as folder:
            if room and hasattr(os, "posix_fallocate"):
                with (Path(folder) / "room").open("wb") as reserved:
                    os.posix_fallocate(reserved.fileno(), 0, room)
                (Path(folder) / "room").unlink()
            yield Path(folder) / file.name
            # the file itself last
            for path in sorted(Path(folder).iterdir(), key=lambda path: path.name == file.name):
                path.replace(file.with_name(path.name))
    except OSError as error:
        msg = f"{file} can't be written ({in_words(error)}); what was there is kept: mend that, and do it again"
        raise OSError(msg) from error


def in_words(error: BaseException) -> str:
    """The reason of an error of the system, as `No space left on device`."""
    # torch.save raises an error about positions in the file while it handles the disk's own
    cause = error.__context__ if isinstance(error.__context__, OSError) else error
    return getattr(cause, "strerror", None) or str(cause).partition("\n")[0]
