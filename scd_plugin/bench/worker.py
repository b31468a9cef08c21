"""A process with one contestant in one mode. It builds the network, and takes steps when it is asked to."""

from __future__ import annotations

import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch

from scd_plugin.bench.bench_settings import BenchSettings, crop_text
from scd_plugin.bench.contestants import Contestant
from scd_plugin.bench.machine import held_bytes, peak_bytes
from scd_plugin.bench.parts import part_shares
from scd_plugin.bench.results import ModeResult
from scd_plugin.bench.timed_steps import Mode, Step, forward_step, random_batch, seconds_per_step
from scd_plugin.freed_memory import give_freed_memory_back, keep_freed_memory
from scd_plugin.measure.cost import multiply_accumulates, parameters

__all__ = ["Entry", "NoResult", "Subject", "answer", "begin", "reason"]


class NoResult(Exception):  # noqa: N818  it is what a contestant has instead of numbers
    """A contestant could not do what was asked for; the message is one sentence."""


class Entry(NamedTuple):
    """One contestant at one setting."""

    contestant: Contestant
    settings: BenchSettings

    @property
    def label(self) -> str:
        """For a person who waits."""
        work = self.settings.work().items()
        amounts = (f"{name} {value if isinstance(value, int) else crop_text(value)}" for name, value in work)
        return f"{self.contestant.label} at {', '.join(amounts)}"


class Subject:
    """One contestant's network and the step that is timed."""

    _step: Step
    _warm_up: Step
    _stages: dict[str, float] | None = None
    _kept = False

    def __init__(self, entry: Entry, mode: Mode) -> None:
        self.contestant, self.settings = entry
        self.mode = mode
        self.cuda = self.settings.device == "cuda"
        self.network: torch.nn.Module

    def prepare(self) -> ModeResult:
        """Build the network and warm up; the memory of that is the memory of the contestant."""
        settings = self.settings
        torch.set_num_threads(settings.threads)
        self._kept = settings.keep_memory and keep_freed_memory(settings.device)
        # as nnU-Net sets it
        torch.backends.cudnn.benchmark = True
        # without memory: what its imports take is not the contestant's; what goes wrong does so again below
        with suppress(Exception), torch.device("meta"):
            self.contestant.build(settings)
        torch.manual_seed(0)
        before = held_bytes(cuda=self.cuda)
        self.network = self.contestant.build(settings).to(settings.device)
        run: Any = torch.compile(self.network) if settings.compiled else self.network
        self._step = self.mode.step(run, settings)
        self._warm_up = self.mode.warm_up(run, settings) if self.mode.warm_up else self._step
        for _ in range(max(settings.warmup, self.mode.least_warm_up)):
            last = seconds_per_step(self._warm_up, 1, cuda=self.cuda)
        steps = 1 if self.mode.warm_up else max(1, round(settings.turn_seconds / last))
        ready = ModeResult(steps=steps, before_bytes=before, peak_bytes=peak_bytes(cuda=self.cuda))
        self._rest()
        return ready

    def turn(self, steps: int) -> tuple[float, int, dict[str, float] | None]:
        """Some steps in a row: their mean seconds, the most bytes held until now, and stages of the last step."""
        # gets back the memory that it gave away after its last turn
        if self.cuda or self._kept:
            self._warm_up()
        seconds = seconds_per_step(self._one_step, steps, cuda=self.cuda)
        self._rest()
        return seconds, peak_bytes(cuda=self.cuda), self._stages

    def describe(self) -> tuple[int, int, dict[str, float]]:
        """Parameters, multiply-accumulates of a forward pass of the batch, and each part's share of its time."""
        forward = forward_step(self.network, self.settings)
        forward()
        shares = part_shares(forward, self.contestant.parts(self.network), cuda=self.cuda)
        return parameters(self.network), multiply_accumulates(self.network, random_batch(self.settings)[0]), shares

    def _one_step(self) -> None:
        self._stages = self._step()

    def _rest(self) -> None:
        # others need it in the meantime
        if self.cuda:
            torch.cuda.empty_cache()
        elif self._kept:
            give_freed_memory_back()


_of_this_process: list[Subject] = []


def begin(entry: Entry, mode: Mode) -> None:
    """What a process does first."""
    warnings.simplefilter("ignore")
    # where memory runs out, Linux ends this process and not the one that keeps the results
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    _of_this_process.append(Subject(entry, mode))


def answer(method: str, *arguments: Any) -> Any:
    """What a method of this process's `Subject` returns.

    Raises:
        NoResult: for whatever a network raises, since that is a result, and may not survive the way to the parent.
    """
    try:
        return getattr(_of_this_process[0], method)(*arguments)
    except Exception as error:  # noqa: BLE001
        raise NoResult(reason(error)) from None


def reason(error: Exception) -> str:
    """One sentence for an error."""
    if isinstance(error, ValueError):
        return str(error)
    return f"{type(error).__name__}: {''.join(str(error).strip().splitlines()[:1])}"
