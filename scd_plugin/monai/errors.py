"""One sentence instead of MONAI's stack trace where a bundle's command ends with an error that we explain.

MONAI wraps what goes wrong in a config's expression into errors of its own, so that the sentence that helps stands in
the middle of a hundred lines. On the command line (`python -m monai.bundle ...`) only that sentence is shown; programs
that run bundles get the exceptions as they are.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from types import TracebackType

from scd_plugin.stopping import say_when_stopped

__all__ = ["explained", "show_sentences_on_the_command_line"]

_PACKAGE = Path(__file__).parents[1]


def explained(error: BaseException | None) -> str | None:
    """Return the sentence of the `ValueError` or `OSError` from this package that `error` goes back to, if any."""
    while error is not None:
        frames = traceback.extract_tb(error.__traceback__)
        # the system's own errors have a number
        ours = isinstance(error, ValueError) or (isinstance(error, OSError) and error.errno is None)
        if ours and frames and _PACKAGE in Path(frames[-1].filename).parents:
            return str(error)
        error = error.__cause__ or error.__context__
    return None


def show_sentences_on_the_command_line() -> None:
    """Show errors as sentences, and end with one when stopped, where MONAI's bundle commands are the program."""
    main = getattr(sys.modules.get("__main__"), "__spec__", None)
    if main is not None and main.name.startswith("monai.bundle"):
        sys.excepthook = _show
        say_when_stopped("a training goes on from its last checkpoint with --resume True, anything else starts over")


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sentence = explained(error)
    if sentence is None:
        sys.__excepthook__(kind, error, trace)
    else:
        sys.stderr.write(f"error: {sentence}\n")
