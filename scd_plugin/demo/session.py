"""nnU-Net's commands, one after the other, in folders of their own: printed as a user would type them, and timed."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

from rich.console import Console
from rich.table import Column, Table

from scd_plugin.folders import check_room
from scd_plugin.stopping import run_program

__all__ = ["Session", "table"]

# bytes; less explains why a command failed
LEAST_ROOM = 10e6


@dataclass
class Session:
    """Runs nnU-Net's commands in folders of their own, prints them, and keeps the time of each stage."""

    output: Path
    console: Console
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folders = {name: self.output / name for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
        self.environment = {name: str(path) for name, path in self.folders.items()}
        if (os.cpu_count() or 1) <= 4:
            # nnU-Net's defaults, a dozen augmentation and 8 export processes, starve a small machine
            self.environment.update(nnUNet_n_proc_DA="1", nnUNet_def_n_proc="1")
        for path in self.folders.values():
            path.mkdir(parents=True, exist_ok=True)
        for name, value in self.environment.items():
            self._say_set(name, value)

    def set(self, name: str, value: str) -> None:
        """Give the commands that follow a variable."""
        self.environment[name] = value
        self._say_set(name, value)

    def _say_set(self, name: str, value: str) -> None:
        words = f"$ export {name}={shlex.quote(value)}"
        self.console.print(words, style="bold cyan", highlight=False, soft_wrap=True)

    def unset(self, name: str) -> None:
        """Take back a variable that was given."""
        if self.environment.pop(name, None) is not None:
            self.console.print(f"$ unset {name}", style="bold cyan", highlight=False)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure the seconds of what is done inside."""
        started = perf_counter()
        yield
        self.seconds[name] = perf_counter() - started

    def command(self, *words: str) -> None:
        """Run one of nnU-Net's commands from this Python's environment; raise if it fails or is not there."""
        self.console.print(f"$ {shlex.join(words)}", style="bold cyan", highlight=False, soft_wrap=True)
        program = _program(words[0])
        try:
            run_program([program, *words[1:]], {**os.environ, **self.environment})
        except subprocess.CalledProcessError:
            # which it says somewhere in its stack trace
            check_room(self.output, LEAST_ROOM, f"{words[0]}, which failed,")
            raise


def _program(name: str) -> str:
    """Find a command of this Python's environment: beside Python, where its scripts go, or on the PATH.

    Debian's own Python is in /usr/bin, and pip puts commands into /usr/local/bin or ~/.local/bin.

    Raises:
        ValueError: if it is nowhere.
    """
    if name == "python":
        # which Debian calls python3 alone
        return sys.executable
    folders = [str(Path(sys.executable).parent), sysconfig.get_path("scripts")]
    program = shutil.which(name, path=os.pathsep.join([*folders, os.environ.get("PATH", "")]))
    if program is None:
        msg = (
            f"{name} is not in {' or '.join(dict.fromkeys(folders))}, nor on the PATH: install nnunetv2 there (pip "
            "install nnunetv2), or add the folder of its commands to PATH"
        )
        raise ValueError(msg)
    return program


def table(title: str, names: str, numbers: str, rows: Sequence[tuple[str, str]]) -> Table:
    """Make two columns; the last row, of all together, stands apart."""
    made = Table(names, Column(numbers, justify="right"), title=title)
    for row in rows[:-1]:
        made.add_row(*row)
    made.add_section()
    made.add_row(*rows[-1])
    return made
