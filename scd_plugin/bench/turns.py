"""A run: every contestant in a process of its own, in every mode, turn by turn, to results."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

import psutil
import torch

from scd_plugin.bench.machine import machine, versions
from scd_plugin.bench.results import EntryResult, Results
from scd_plugin.bench.timed_steps import Mode
from scd_plugin.bench.worker import Entry, NoResult, answer, begin

__all__ = ["Crew", "measure"]

# share of the machine's memory that a network is trusted with which was not seen yet
UNKNOWN = 0.5


def measure(
    entries: Sequence[Entry],
    modes: Sequence[Mode],
    *,
    command: str,
    grow: dict[str, Any] | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> Results:
    """Measure everyone in turn, A B C A B C, so that a machine that slows down slows down all of them.

    The settings of all entries are alike but for what grows. `report` hears what is done next; the others are recorded.

    Raises:
        ValueError: if the device is not there.
    """
    settings = entries[0].settings
    if settings.device == "cuda" and not torch.cuda.is_available():
        msg = "device 'cuda' was asked for and PyTorch sees no GPU; use --device cpu"
        raise ValueError(msg)
    # before hours of measuring, since a setting of the machine can be wrong
    where = machine(settings.device)
    measured = {
        Entry(one, at): EntryResult(contestant=one, keep_ratio=one.keep_ratio(at), **at.work()) for one, at in entries
    }
    for mode in modes:
        working = {entry: result for entry, result in measured.items() if not _failed(result)}
        with closing(Crew(list(working), mode, cuda=settings.device == "cuda")) as crew:
            for turn in range(1 + settings.repeats):
                for entry, result in working.items():
                    what = f"repeat {turn} of {settings.repeats}" if turn else "warm-up"
                    report(f"{mode.name}, {what}: {entry.label}")
                    _go_on(crew, entry, result, mode.name, last=turn == settings.repeats)
    return Results(
        created=datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        command=command,
        machine=where,
        versions=versions(),
        settings=asdict(settings),
        grow=grow,
        entries=list(measured.values()),
    )


def _go_on(crew: Crew, entry: Entry, result: EntryResult, mode: str, *, last: bool) -> None:
    """Warm up or take a turn; at the last one of its first mode a contestant is described, too."""
    if _failed(result):
        return
    with _problems_noted(result, mode):
        if mode not in result.modes:
            result.modes[mode] = crew.ask(entry, "prepare")
            return
        found = result.modes[mode]
        seconds, peak, stages = crew.ask(entry, "turn", found.steps)
        found.seconds.append(seconds)
        # kept memory grows for some steps
        found.peak_bytes = max(found.peak_bytes, peak)
        found.stages += [stages] if stages else []
        if last and result.parameters is None:
            # what cannot be counted leaves speeds as they are
            with _problems_noted(result, "description"):
                result.parameters, result.macs, result.parts = crew.ask(entry, "describe")
            crew.end(entry)


def _failed(result: EntryResult) -> bool:
    return bool(set(result.problems) - {"description"})


@contextmanager
def _problems_noted(result: EntryResult, mode: str) -> Iterator[None]:
    """A contestant that fails has a reason instead of numbers in that mode."""
    try:
        yield
    except NoResult as error:
        result.problems[mode] = str(error)
        result.modes.pop(mode, None)


class Crew:
    """All contestants in one mode. They stay in memory between their turns as long as there is enough of it."""

    def __init__(self, entries: Sequence[Entry], mode: Mode, *, cuda: bool) -> None:
        self._mode = mode
        self._cuda = cuda
        # on a GPU every process starts from nothing, since CUDA does not survive a fork
        fork = not cuda and "forkserver" in multiprocessing.get_all_start_methods()
        self._context: Any = multiprocessing.get_context("forkserver" if fork else "spawn")
        if fork:
            # imported once, then shared by all
            self._context.set_forkserver_preload(["scd_plugin.bench.worker"])
        self._needs: dict[Entry, int] = {}
        # the one used last comes last; those that start from nothing do so at the same time
        self._live = {} if fork else {entry: self._start(entry) for entry in entries}

    def close(self) -> None:
        """End all processes."""
        for entry in list(self._live):
            self.end(entry)

    def ask(self, entry: Entry, method: str, *arguments: Any) -> Any:
        """What a method of the contestant's `Subject` returns; one that made room for others is built again first.

        Raises:
            NoResult: if there is no answer, with the reason.
        """
        self._make_room(entry)
        if entry not in self._live and method != "prepare":
            self.ask(entry, "prepare")
        process = self._live.pop(entry) if entry in self._live else self._start(entry)
        self._live[entry] = process
        try:
            answered = process.submit(answer, method, *arguments).result()
        except (BrokenProcessPool, NoResult) as error:
            self.end(entry)
            if self._cuda and self._live and "out of memory" in str(error):
                # others hold some of the GPU's between their turns
                self.close()
                return self.ask(entry, method, *arguments)
            ended = "its process ended without an answer, as it does where memory runs out"
            raise NoResult(str(error) if isinstance(error, NoResult) else ended) from None
        if method == "prepare":
            self._needs[entry] = answered.memory
        return answered

    def end(self, entry: Entry) -> None:
        """End a contestant's process."""
        if entry in self._live:
            self._live.pop(entry).shutdown()

    def _start(self, entry: Entry) -> ProcessPoolExecutor:
        process = ProcessPoolExecutor(1, mp_context=self._context, initializer=begin, initargs=(entry, self._mode))
        # a process starts with its first work
        process.submit(int)
        return process

    def _make_room(self, entry: Entry) -> None:
        """Others end until there is memory: the one used last first, since its next turn is the farthest away."""
        needed = self._needs.get(entry, UNKNOWN * psutil.virtual_memory().total)
        for other in reversed([] if self._cuda else [other for other in self._live if other != entry]):
            if psutil.virtual_memory().available >= needed:
                break
            self.end(other)
