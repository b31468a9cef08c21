"""Where the time of a prediction goes, case by case and stage by stage."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from rich.table import Table
from rich.text import Text

from scd_plugin.whole_files import moved_into_place

__all__ = ["STAGES", "CaseTimes", "settings_of_runs", "times_table", "typed_command", "write_times"]

STAGES = ("read", "preprocess", "network", "resample", "write")


@dataclass
class CaseTimes:
    """How long each stage of a case took, and with how many folds and mirrored passes."""

    case: str
    folds: tuple[str, ...]
    mirrored_passes: int
    """Passes over each window and fold, the unmirrored one included; 1 without mirroring."""
    windows: int = 0
    windows_computed: int = 0
    """Those that went through the network; fewer than all where empty ones were skipped."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Stage to wall time. Reading, preprocessing, resampling and writing run while the network works on other cases."""
    error: str | None = None

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of what is inside to a stage; a failure inside is said to be that stage's."""
        start = perf_counter()
        try:
            yield
        except Exception as error:
            self.error = f"{name}: {_one_sentence(error)}"
            raise
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + perf_counter() - start


def write_times(
    path: Path, settings: dict[str, Any], cases: Sequence[CaseTimes], *, wall: float, append: bool = False
) -> None:
    """Write a run's times as JSON: `{"runs": [{"settings", "wall_seconds", "cases"}]}`.

    `settings` are what the times depend on, `wall` is in seconds; `append` keeps the runs that one of our files has.
    """
    runs = _runs_in(path) if append else []
    runs.append({"settings": settings, "wall_seconds": wall, "cases": [asdict(case) for case in cases]})
    with moved_into_place(path) as partial:
        partial.write_text(json.dumps({"runs": runs}, indent=2, default=str) + "\n", encoding="utf-8")


def settings_of_runs(path: Path) -> list[dict[str, Any]]:
    """Settings of the runs in a file of times that wrote a label map; none where the file is missing or no JSON."""
    runs = _runs_in(path)
    return [run.get("settings", {}) for run in runs if any(not case.get("error") for case in run.get("cases", ()))]


def typed_command() -> str:
    """Return the command that runs, as typed: one of `scd`, or a program that uses it."""
    program, *words = sys.argv
    return shlex.join([Path(program).name, *words])


def times_table(cases: Sequence[CaseTimes]) -> Table:
    """Make a table of the times for a terminal, in seconds."""
    table = Table("case", box=None, header_style="bold")
    table.columns[0].overflow = "fold"
    for heading in ("folds", "mirrored passes", "windows", *STAGES):
        table.add_column(heading, justify="right")
    for one in cases:
        skipped = one.windows - one.windows_computed
        # as text, since names may hold rich's marks
        table.add_row(
            Text(one.case),
            ", ".join(one.folds),
            str(one.mirrored_passes),
            f"{one.windows} ({skipped} skipped)" if skipped else str(one.windows),
            *(f"{one.seconds[stage]:.2f}" if stage in one.seconds else "-" for stage in STAGES),
            style="red" if one.error else "",
        )
    return table


def _runs_in(path: Path) -> list[Any]:
    try:
        runs = json.loads(path.read_text(encoding="utf-8"))["runs"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return runs if isinstance(runs, list) else []


def _one_sentence(error: Exception) -> str:
    """Say what went wrong in one line: the last that says something, where a message has several, as ITK's have."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # the system's own errors have a number
    ours = isinstance(error, ValueError) or (isinstance(error, OSError) and error.errno is None)
    if ours and len(lines) == 1:
        return lines[0]
    return f"{type(error).__name__}: {lines[-1]}" if lines else f"{type(error).__name__}, see the lines above"
