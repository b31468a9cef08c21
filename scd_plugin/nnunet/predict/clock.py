"""Where the time of a prediction goes, case by case and stage by stage."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from rich.table import Table
from rich.text import Text

from scd_plugin.whole_files import moved_into_place

__all__ = [
    "STAGES",
    "CaseTimes",
    "check_same_settings",
    "runs_in",
    "timed_run",
    "times_table",
    "typed_command",
]

SAME = ("model", "configuration", "checkpoint", "folds", "mirror_axes", "step_size", "keep", "previous_stage")
"""What label maps of one folder must share; other settings change voxels near ties alone."""
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
    path: Path,
    settings: dict[str, Any],
    cases: Sequence[CaseTimes],
    *,
    wall: float | None,
    before: Sequence[dict[str, Any]] = (),
) -> None:
    """Write a run's times as JSON: `{"runs": [{"settings", "wall_seconds", "cases"}]}`.

    Args:
        path: the file.
        settings: what the times depend on.
        cases: those that ended.
        wall: seconds; None while it runs, which is what a killed one leaves.
        before: runs that stand in the file too, see `runs_in`.
    """
    runs = [*before, {"settings": settings, "wall_seconds": wall, "cases": [asdict(case) for case in cases]}]
    with moved_into_place(path) as partial:
        partial.write_text(json.dumps({"runs": runs}, indent=2, default=str) + "\n", encoding="utf-8")


@contextmanager
def timed_run(
    path: Path,
    settings: dict[str, Any],
    cases: Iterable[str],
    finished: Sequence[CaseTimes],
    start: float | None = None,
) -> Iterator[None]:
    """Time a run, and write its times at the end, beside runs whose label maps stay.

    Its settings are written at once, for `--continue` where it is killed. A run that finishes no case leaves the file
    as it was.

    Args:
        path: the file.
        settings: what label maps and times depend on.
        cases: those that it is to predict.
        finished: times of cases that ended; it grows.
        start: when the first case was begun, by `perf_counter`; now, if left out.
    """
    content, before = path.read_bytes() if path.is_file() else None, runs_in(path)
    folds = tuple(settings.get("folds", ()))
    begun = [CaseTimes(case, folds, 1, error="not finished") for case in cases]
    write_times(path, settings, begun, wall=None, before=before)
    start = perf_counter() if start is None else start
    try:
        yield
    finally:
        done = {times.case for times in finished if not times.error}
        if finished:
            others = [run for run in before if _elsewhere(run, settings) or _perhaps_written(run) - done]
            write_times(path, settings, finished, wall=perf_counter() - start, before=others)
        elif content is None:
            path.unlink(missing_ok=True)
        else:
            with moved_into_place(path) as partial:
                partial.write_bytes(content)


def check_same_settings(path: Path, now: Mapping[str, Any], cases: Iterable[str]) -> None:
    """Raise ValueError if label maps of cases were predicted with other settings, as a file of times tells."""
    writers: dict[str, list[dict[str, Any]]] = {}
    for run in (run for run in runs_in(path) if not _elsewhere(run, now)):
        for case in _perhaps_written(run):
            # a label map is that of the last run, unless that was killed before
            writers[case] = [*(writers.get(case, ()) if run.get("wall_seconds") is None else ()), run]
    for case in cases:
        for run in writers.get(case, ()):
            _check_same(path, run.get("settings", {}), now)


def _check_same(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for name in SAME:
        # `keep` is the youngest of them
        was, wanted = (_comparable(name, one.get(name)) for one in (before, now))
        if was != wanted and (name in before or name == "keep"):
            own = {"keep": "the model's own"}.get(name, "none")
            first, second = (own if value is None else value for value in (was, wanted))
            msg = (
                f"{path} says that label maps there were predicted with {name} {first}, and now it is {second}: take "
                "the same, another output, or --overwrite"
            )
            raise ValueError(msg)


def _comparable(name: str, value: Any) -> Any:
    """Write a setting in one way, whether it comes from a file of times or not."""
    if name in ("model", "previous_stage") and value is not None:
        return str(Path(value).resolve())
    return ", ".join(map(str, value)) or None if isinstance(value, (list, tuple)) else value


def _elsewhere(run: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    """Whether a run wrote to another folder; those of older versions do not say."""
    output = run.get("settings", {}).get("output")
    return output is not None and output != settings.get("output")


def _perhaps_written(run: Mapping[str, Any]) -> set[str]:
    """Cases whose label map a run wrote; of one that was killed all that it was to write."""
    killed = run.get("wall_seconds") is None
    return {case["case"] for case in run.get("cases", ()) if killed or not case.get("error")}


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


def runs_in(path: Path) -> list[dict[str, Any]]:
    """Runs in a file of times; none where it is missing or none of ours."""
    try:
        runs = json.loads(path.read_text(encoding="utf-8"))["runs"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [run for run in runs if isinstance(run, dict)] if isinstance(runs, list) else []


def _one_sentence(error: Exception) -> str:
    """Say what went wrong in one line: the last that says something, where a message has several, as ITK's have."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # the system's own errors have a number
    ours = isinstance(error, ValueError) or (isinstance(error, OSError) and error.errno is None)
    if ours and len(lines) == 1:
        return lines[0]
    return f"{type(error).__name__}: {lines[-1]}" if lines else f"{type(error).__name__}, see the lines above"
