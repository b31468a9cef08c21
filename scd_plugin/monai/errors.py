"""One sentence instead of MONAI's stack trace where a bundle's command ends with an error that we explain.

MONAI wraps what goes wrong in a config's expression into errors of its own, so that the sentence that helps stands in
the middle of a hundred lines. On the command line (`python -m monai.bundle ...`) only that sentence is shown; programs
that run bundles get the exceptions as they are.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import sys
import threading
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

from monai.bundle import ConfigParser

from scd_plugin.monai.command_line import is_bundle_command
from scd_plugin.stopping import say_when_stopped
from scd_plugin.whole_files import in_words

__all__ = ["built", "explained", "show_sentences_on_the_command_line"]

# a disk that is full, over its quota, read-only or failing, a file that may not grow or stands where a folder must be
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG, errno.EEXIST, errno.ENOTDIR, errno.EACCES)
_PACKAGE = Path(__file__).parents[1]
# what MONAI says of a `_target_` that is nowhere
_NOWHERE = re.compile(r"Cannot locate class or function path: '(.+)'\.")


def built(parser: ConfigParser, name: str) -> Any:
    """Build what a part of a config describes.

    Raises:
        ValueError: the sentence for what went wrong, if there is one; else MONAI's own errors.
    """
    try:
        return parser.get_parsed_content(name)
    except (ImportError, RuntimeError) as error:
        if sentence := explained(error):
            raise ValueError(sentence) from None
        raise


def explained(error: BaseException | None) -> str | None:
    """Return a sentence for what is behind `error`.

    That is a `ValueError` or `OSError` of this package, the disk's own, or a `_target_` that MONAI did not find.
    """
    while error is not None:
        if sentence := _quoted(str(error)):
            return sentence
        if isinstance(error, ModuleNotFoundError) and (nowhere := _NOWHERE.fullmatch(str(error))):
            return (
                f"the config's _target_ {nowhere[1]} can't be imported: for a file of your own add its folder to "
                "PYTHONPATH, else correct the name or install its package"
            )
        frames = traceback.extract_tb(error.__traceback__)
        # the system's own errors have a number
        if isinstance(error, OSError) and error.errno in _DISK:
            where = os.fsdecode(error.filename) if error.filename else "a file"
            return f"{where} can't be used ({in_words(error)}); make room or name another place"
        ours = isinstance(error, ValueError) or (isinstance(error, OSError) and error.errno is None)
        if ours and frames and _PACKAGE in Path(frames[-1].filename).parents:
            return str(error)
        error = error.__cause__ or error.__context__
    return None


def _quoted(message: str) -> str:
    """Return the sentence of an `OSError` from this package of which a message holds the stack trace as text.

    MONAI's `SaveImage` keeps no more of what a writer raised.
    """
    last = message.rstrip().rpartition("\n")[2]
    return last.removeprefix("OSError: ") if f'File "{_PACKAGE}' in message and last.startswith("OSError: ") else ""


def show_sentences_on_the_command_line() -> None:
    """Show errors as sentences, and end with one when stopped, where MONAI's bundle commands are the program."""
    if is_bundle_command():
        sys.excepthook = _show
        threading.excepthook = lambda args: _show(args.exc_type, args.exc_value, args.exc_traceback)
        logging.setLogRecordFactory(_without_explained_trace)
        say_when_stopped("a training goes on from its last checkpoint with --resume True, anything else starts over")


def _without_explained_trace(*args: Any, **kwargs: Any) -> logging.LogRecord:
    """Make a line of the log; engines log a stack trace of what ends them."""
    record = logging.LogRecord(*args, **kwargs)
    if isinstance(record.exc_info, tuple) and explained(record.exc_info[1]) is not None:
        record.exc_info = None
    return record


def _show(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    sentence = explained(error)
    if sentence is None:
        sys.__excepthook__(kind, error or kind(), trace)
    else:
        sys.stderr.write(f"error: {sentence}\n")
