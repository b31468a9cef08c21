"""A run: every contestant in every mode, turn by turn, to results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from datetime import datetime, timezone

from scd_plugin.bench.contestants import parse_contestant, prunes
from scd_plugin.bench.crew import Crew, WorkerError
from scd_plugin.bench.entries import Entry, entries_of, grown_entries, steps_per_turn, turns
from scd_plugin.bench.machine import machine, versions
from scd_plugin.bench.results import SCHEMA, EntryResult, Results
from scd_plugin.bench.settings import CASE, MODES, Settings, command_line, num_windows

__all__ = ["run_bench", "run_length"]

Report = Callable[[str], None]


def run_length(settings: Settings, num_values: int = 1) -> int:
    """How often `run_bench` reports when nothing fails."""
    return len(settings.contestants) * num_values * len(settings.measured_modes) * (1 + settings.repeats)


def run_bench(
    settings: Settings, *, grow: str | None = None, values: Sequence[str] = (), report: Report = lambda _: None
) -> Results:
    """Measure.

    Args:
        settings: what and how.
        grow: a key of `entries.VARIABLES`, to measure cost as the work grows.
        values: of it.
        report: called before each piece of work with what it is.

    Raises:
        ValueError: if something that was asked for cannot be.
    """
    import torch

    if settings.device == "cuda" and not torch.cuda.is_available():
        msg = "device 'cuda' was asked for and PyTorch sees no GPU; use --device cpu"
        raise ValueError(msg)
    # before hours of measuring, since a setting of the machine can be wrong
    where = machine(settings.device)
    entries = grown_entries(settings, grow, values) if grow else entries_of(settings)
    measured = {entry: _blank(entry) for entry in entries}
    for mode in settings.measured_modes:
        _measure_mode(measured, mode, report)
    return {
        "schema": SCHEMA,
        "created": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "command": command_line(settings, grow=grow, values=tuple(values)),
        "machine": where,
        "versions": versions(),
        "settings": {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(settings).items()
        },
        "grow": {"variable": grow, "values": list(values)} if grow else None,
        "entries": list(measured.values()),
    }


def _blank(entry: Entry) -> EntryResult:
    keep = parse_contestant(entry.contestant)[1].get("keep_ratio")
    blank: EntryResult = {
        "contestant": entry.contestant,
        "crop": list(entry.settings.crop),
        "batch": entry.settings.batch,
        "keep_ratio": entry.settings.keep_ratio if prunes(entry.contestant) else keep,
        "parameters": None,
        "macs": None,
        "parts": {},
        "modes": {},
        "problems": {},
    }
    settings = entry.settings
    if settings.volume is not None:
        blank["volume"] = list(settings.volume)
        blank["windows"] = num_windows(settings.volume, settings.crop, settings.overlap)
    return blank


def _measure_mode(measured: dict[Entry, EntryResult], mode: str, report: Report) -> None:
    """Fill one mode in. Who failed in another mode is left out."""
    entries = [entry for entry, result in measured.items() if not _failed(result)]
    if not entries:
        return
    with closing(Crew(entries, mode, cuda=entries[0].settings.device == "cuda")) as crew:
        for entry in entries:
            report(f"{mode}, warm-up: {entry.label}")
            with _problems_noted(measured[entry], mode):
                ready = crew.prepare(entry)
                measured[entry]["modes"][mode] = {
                    "seconds": [],
                    "steps": 1 if mode == CASE else steps_per_turn(ready.step_seconds, entry.settings.turn_seconds),
                    "before_bytes": ready.before_bytes,
                    "peak_bytes": ready.peak_bytes,
                }
        repeats = entries[0].settings.repeats
        for i, number in enumerate(turns(len(entries), repeats)):
            entry = entries[number]
            if not _failed(measured[entry]):
                report(f"{mode}, repeat {i // len(entries) + 1} of {repeats}: {entry.label}")
                with _problems_noted(measured[entry], mode):
                    _turn(crew, entry, measured[entry], mode)


def _turn(crew: Crew, entry: Entry, result: EntryResult, mode: str) -> None:
    """One turn; at the last one of its first mode a contestant is described, too."""
    found = result["modes"][mode]
    found["seconds"].append(crew.turn(entry, found["steps"]))
    # kept memory grows for some steps
    found["peak_bytes"] = max(found["peak_bytes"], crew.peak(entry))
    if mode == CASE:
        found.setdefault("stages", []).append(crew.stages(entry))
    if len(found["seconds"]) == entry.settings.repeats and result["parameters"] is None:
        # what cannot be counted leaves speeds as they are
        with _problems_noted(result, "description"):
            result["parameters"], result["macs"], result["parts"] = crew.describe(entry)


def _failed(result: EntryResult) -> bool:
    return bool(set(result["problems"]) & {*MODES, CASE})


@contextmanager
def _problems_noted(result: EntryResult, mode: str) -> Iterator[None]:
    """A contestant that fails has a reason instead of numbers in that mode."""
    try:
        yield
    except WorkerError as error:
        result["problems"][mode] = str(error)
        result["modes"].pop(mode, None)
