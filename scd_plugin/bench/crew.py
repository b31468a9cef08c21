"""Processes with one contestant each, asked in turn; the parent measures nothing and loads no network."""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import psutil

from scd_plugin.bench.entries import Entry
from scd_plugin.bench.messages import Description, Failed, Prepared

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

__all__ = ["Crew", "WorkerError", "to_close"]

# of the machine's memory: what stays free, and what a network that was not seen yet is trusted with
RESERVE = 0.1
UNKNOWN = 0.5


class WorkerError(Exception):
    """A contestant could not do what was asked for; the message is one sentence."""


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    held: int = 0


class Crew:
    """All contestants in one mode. They stay in memory between their turns as long as there is enough of it.

    Args:
        entries: who will be asked.
        mode: "forward", "train" or "case".
        cuda: on a GPU every process starts from nothing, since CUDA does not survive a fork.
    """

    def __init__(self, entries: Sequence[Entry], mode: str, *, cuda: bool) -> None:
        self._mode = mode
        self._cuda = cuda
        fork = not cuda and "forkserver" in multiprocessing.get_all_start_methods()
        self._context: Any = multiprocessing.get_context("forkserver" if fork else "spawn")
        if fork:
            # imported once, then shared by all
            self._context.set_forkserver_preload(["scd_plugin.bench.worker"])
        self._live: dict[Entry, _Worker] = {}
        self._needs: dict[Entry, int] = {}
        # those that start from nothing do so at the same time
        self._waiting = {entry: self._start(entry) for entry in entries if not fork}

    def close(self) -> None:
        """End all processes."""
        self._live |= self._waiting
        for entry in list(self._live):
            self._close(entry)

    def prepare(self, entry: Entry) -> Prepared:
        """Build and warm up a contestant.

        Raises:
            WorkerError: if it cannot be, with the reason.
        """
        if not self._cuda:
            self._make_room(entry)
        self._live[entry] = self._waiting.pop(entry) if entry in self._waiting else self._start(entry)
        prepared: Prepared = self._ask(entry, "prepare")
        self._needs[entry] = prepared.peak_bytes - prepared.before_bytes
        self._live[entry].held = prepared.held_bytes
        return prepared

    def turn(self, entry: Entry, steps: int) -> float:
        """Mean seconds of some steps in a row."""
        self._awake(entry)
        seconds: float = self._ask(entry, "turn", steps)
        return seconds

    def peak(self, entry: Entry) -> int:
        """The most bytes that a contestant in memory held until now."""
        most: int = self._ask(entry, "peak")
        return most

    def stages(self, entry: Entry) -> dict[str, float]:
        """Seconds of each stage of the last turn, in mode "case"."""
        seconds: dict[str, float] = self._ask(entry, "stages")
        return seconds

    def describe(self, entry: Entry) -> Description:
        """Parameters, multiply-accumulates and parts. The contestant is not for turns any more."""
        self._awake(entry)
        described: Description = self._ask(entry, "describe")
        self._close(entry)
        return described

    def _start(self, entry: Entry) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, entry, self._mode))
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def _awake(self, entry: Entry) -> None:
        if entry not in self._live:
            self.prepare(entry)
        elif not self._cuda:
            self._make_room(entry)
        # the last of the dict is the one used last
        self._live[entry] = self._live.pop(entry)

    def _ask(self, entry: Entry, method: str, *arguments: Any) -> Any:
        worker = self._live[entry]
        try:
            worker.connection.send((method, arguments))
            answer = worker.connection.recv()
        except (EOFError, OSError):
            worker.process.join()
            code = worker.process.exitcode
            self._close(entry)
            killed = ", as it is where memory runs out" if code == -9 else ""
            msg = f"its process ended without an answer{killed} (exit code {code})"
            raise WorkerError(msg) from None
        if isinstance(answer, Failed):
            self._close(entry)
            raise WorkerError(answer.reason)
        return answer

    def _make_room(self, entry: Entry) -> None:
        memory = psutil.virtual_memory()
        held = {other: worker.held for other, worker in self._live.items() if other != entry}
        needed = self._needs.get(entry, int(UNKNOWN * memory.total))
        if entry in self._live:
            needed = max(0, needed - self._live[entry].held)
        for other in to_close(held, needed=needed, available=memory.available - int(RESERVE * memory.total)):
            self._close(other)

    def _close(self, entry: Entry) -> None:
        worker = self._live.pop(entry, None)
        if worker is not None:
            worker.connection.close()
            worker.process.join(timeout=30)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()


def to_close(held: Mapping[Entry, int], *, needed: int, available: int) -> list[Entry]:
    """Who makes room for another: the one used last comes first, since its next turn is the farthest away.

    Args:
        held: bytes that the others hold, the one used last at the end.
        needed: bytes that the other needs.
        available: bytes that are free.
    """
    closed = []
    for entry, freed in reversed(list(held.items())):
        if needed <= available:
            break
        closed.append(entry)
        available += freed
    return closed


def _serve(connection: Connection, entry: Entry, mode: str) -> None:
    from scd_plugin.bench.worker import serve

    serve(connection, entry, mode)
