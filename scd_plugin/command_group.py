"""What all commands of `scd` share: how errors are told, what stopping says, how options come from settings."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import typer
from typer.core import TyperGroup

from scd_plugin.quick_imports import freeze_at_exit
from scd_plugin.stopping import stoppable
from scd_plugin.whole_files import in_words

__all__ = ["CommandGroup", "with_options_of"]

Command = TypeVar("Command", bound=Callable[..., None])

# of timm and PyTorch; of no use to who types a command
NOISE = "`torch.jit.interface` is deprecated"
GO_ON = {
    "predict": "label maps that are written are whole; the same command with --continue predicts the others",
    "demo": "the same command starts over",
    "train": "the same command goes on where it stopped",
}
NOTHING_LEFT = "nothing half-made is left; the same command starts over"


@contextmanager
def _errors_in_one_sentence() -> Iterator[None]:
    """Around a command: what the user can mend ends it with a sentence instead of a traceback."""
    try:
        yield
    except BrokenPipeError:
        # who read the output has left, and typer ends without a word
        raise
    except subprocess.CalledProcessError as error:
        typer.echo(f"error: {Path(error.cmd[0]).name} ended with exit code {error.returncode}, see above", err=True)
        raise typer.Exit(1) from None
    except (ValueError, OSError) as error:
        typer.echo(f"error: {_sentence(error)}", err=True)
        raise typer.Exit(2) from None


def _sentence(error: Exception) -> str:
    """What an error says; of the system's own, whose text begins with a number, what it is about and the reason."""
    if not isinstance(error, OSError) or error.errno is None:
        return str(error)
    return f"{error.filename or 'a file'}: {in_words(error)}; mend that, or name another place"


class CommandGroup(TyperGroup):
    """What all commands share: errors in a sentence, an end when told to stop, no warnings of other packages."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """As in typer; where even help can't be written, say so."""
        try:
            return super().main(*args, **kwargs)
        except OSError as error:
            typer.echo(f"error: {_sentence(error)}", err=True)
            sys.exit(2)

    def invoke(self, ctx: Any) -> Any:
        """As in typer, with all of that around it."""
        freeze_at_exit()
        warnings.filterwarnings("ignore", NOISE, FutureWarning)
        # for the programs that a command starts
        os.environ.setdefault("PYTHONWARNINGS", f"ignore:{NOISE}:FutureWarning")
        with (
            stoppable(lambda: GO_ON.get(ctx.invoked_subcommand, NOTHING_LEFT)),
            _errors_in_one_sentence(),
        ):
            return super().invoke(ctx)


def with_options_of(settings: type) -> Callable[[Command], Command]:
    """Give a command, in place of its `**options`, an option for each field of a dataclass, annotated as parameters."""

    def decorate(command: Command) -> Command:
        own, fields = (inspect.signature(one, eval_str=True).parameters.values() for one in (command, settings))
        kept = [parameter for parameter in own if parameter.kind is not parameter.VAR_KEYWORD]
        # where typer looks for the parameters of a command
        command.__signature__ = inspect.Signature([*kept, *fields])  # type: ignore[attr-defined]
        return command

    return decorate
