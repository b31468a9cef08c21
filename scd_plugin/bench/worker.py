"""A process with one contestant in one mode. It does what its parent asks for, until that hangs up."""

from __future__ import annotations

import warnings
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from scd_plugin.bench.case import WholeCase
from scd_plugin.bench.contestants import CONTESTANTS, build, parse_contestant
from scd_plugin.bench.entries import Entry
from scd_plugin.bench.memory import held_bytes, peak_bytes
from scd_plugin.bench.messages import Description, Failed, Prepared
from scd_plugin.bench.parts import part_shares
from scd_plugin.bench.settings import CASE
from scd_plugin.bench.steps import Step, autocast, forward_step, random_batch, seconds_per_step, training_step
from scd_plugin.bench.windows import volume_step
from scd_plugin.freed_memory import give_freed_memory_back, keep_freed_memory
from scd_plugin.measure.cost import multiply_accumulates, parameters

__all__ = ["Subject", "serve"]

# AdamW makes its state at the end of the first training step, so that only the second holds all at once
STEPS_TO_PEAK = {"train": 2}


class Subject:
    """One contestant's network and the step that is timed.

    Args:
        entry: what to build and how to run it.
        mode: "forward", "train" or "case".
    """

    def __init__(self, entry: Entry, mode: str) -> None:
        self.entry = entry
        self.mode = mode
        self.cuda = entry.settings.device == "cuda"
        self.kept = False
        self._step: Step
        self.case: WholeCase

    def prepare(self) -> Prepared:
        """Build the network and warm up; the memory of that is the memory of the contestant."""
        settings = self.entry.settings
        torch.set_num_threads(settings.threads)
        self.kept = settings.keep_memory and keep_freed_memory(settings.device)
        # as nnU-Net sets it
        torch.backends.cudnn.benchmark = True
        # without memory: what its imports take is not the contestant's; what goes wrong does so again below
        with suppress(Exception), torch.device("meta"):
            build(self.entry.contestant, settings)
        torch.manual_seed(0)
        before = held_bytes(cuda=self.cuda)
        self.image, label = random_batch(
            settings.in_channels, settings.out_channels, settings.crop, batch=settings.batch, device=settings.device
        )
        self.network = build(self.entry.contestant, settings).to(settings.device)
        self.amp = autocast(settings.dtype, settings.device)
        run: Any = torch.compile(self.network) if settings.compiled else self.network
        if self.mode == "train":
            self._step = training_step(run, self.image, label, self.amp, scale=settings.dtype == "float16")
        elif settings.volume:
            self._step = volume_step(run, settings, self.amp)
        else:
            self._step = forward_step(run, self.image, self.amp)
        for _ in range(max(settings.warmup, STEPS_TO_PEAK.get(self.mode, 1))):
            last = seconds_per_step(self._step, 1, cuda=self.cuda)
        if self.mode == CASE:
            # warmed up on a window
            self._step = self.case = WholeCase(run, settings, self.amp)
        peak = self.peak()
        self._rest()
        return Prepared(last, before, peak, held_bytes(cuda=self.cuda))

    def turn(self, steps: int) -> float:
        """Mean seconds of some steps in a row."""
        # gets back the memory that it gave away after its last turn; to a whole case that is nothing
        if self.mode != CASE and (self.cuda or self.kept):
            self._step()
        seconds = seconds_per_step(self._step, steps, cuda=self.cuda)
        self._rest()
        return seconds

    def peak(self) -> int:
        """The most bytes held until now."""
        return peak_bytes(cuda=self.cuda)

    def stages(self) -> dict[str, float]:
        """Seconds of each stage of the last turn of a whole case."""
        return self.case.seconds

    def describe(self) -> Description:
        """Count what can be counted, and share the time of a forward pass out among the parts."""
        name, _ = parse_contestant(self.entry.contestant)
        forward = forward_step(self.network, self.image, self.amp)
        forward()
        shares = part_shares(forward, CONTESTANTS[name].parts(self.network), cuda=self.cuda)
        macs = multiply_accumulates(self.network, self.image)
        return Description(parameters(self.network), macs, shares)

    def _rest(self) -> None:
        # others need it in the meantime
        if self.cuda:
            torch.cuda.empty_cache()
        elif self.kept:
            give_freed_memory_back()


def serve(connection: Connection, entry: Entry, mode: str) -> None:
    """Answer (method of `Subject`, its arguments) with what it returns, or with `Failed`.

    Args:
        connection: to the parent.
        entry: see `Subject`.
        mode: see `Subject`.
    """
    warnings.simplefilter("ignore")
    # where memory runs out, Linux ends this process and not the one that keeps the results
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    subject = Subject(entry, mode)
    # the parent is gone, or has heard enough
    with suppress(EOFError, OSError):
        while True:
            method, arguments = connection.recv()
            try:
                answer = getattr(subject, method)(*arguments)
            except Exception as error:  # whatever a foreign network raises is a result  # noqa: BLE001
                connection.send(Failed(_sentence(error)))
                return
            connection.send(answer)


def _sentence(error: Exception) -> str:
    if isinstance(error, ValueError):
        return str(error)
    if isinstance(error, torch.OutOfMemoryError):
        return "the memory of the device is not enough"
    first = str(error).strip().splitlines()[:1]
    return f"{type(error).__name__}: {''.join(first)}"
