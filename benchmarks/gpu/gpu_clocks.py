"""Clocks that a busy host can't spoil: replays of a captured graph between events, and kernels by the profiler."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

import torch

from scd_plugin.bench.timed_steps import seconds_per_step

Work = Callable[[], None]

WARM_UP = 3
REPEATS = 5
TURN_SECONDS = 0.1
MOST_STEPS = 50


class Kernels(NamedTuple):
    """What the device did in one call."""

    seconds: float
    """of all kernels together"""
    count: int
    dearest: list[tuple[str, int, float]]
    """name, calls and seconds of the ten that took longest"""


def captured(work: Work, *, cuda: bool) -> Work:
    """Return what does the same work again as one graph; on a CPU, in a rehearsal, the work itself.

    The work touches the same memory each time, and the host reads nothing of it.
    """
    if not cuda:
        work()
        return work
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def device_seconds(replay: Work, *, cuda: bool) -> float:
    """Median over some turns of the seconds a replay takes; replays are queued ahead, so the host does not matter."""
    last = seconds_per_step(replay, 1, cuda=cuda)
    steps = max(1, min(MOST_STEPS, round(TURN_SECONDS / max(last, 1e-6)))) if cuda else 1
    return median(seconds_per_step(replay, steps, cuda=cuda) for _ in range(REPEATS if cuda else 1))


def host_seconds(work: Work, *, cuda: bool, steps: int = 5) -> float:
    """Seconds a call takes as a program without graphs runs it: the host's time shows here, and nowhere else."""
    seconds_per_step(work, 1, cuda=cuda)
    begin = time.perf_counter()
    for _ in range(steps if cuda else 1):
        work()
    if cuda:
        torch.cuda.synchronize()
    return (time.perf_counter() - begin) / (steps if cuda else 1)


def kernels(work: Work, *, cuda: bool) -> Kernels:
    """Sum up one call by PyTorch's profiler; on a CPU its operators."""
    kind = torch.profiler.ProfilerActivity.CUDA if cuda else torch.profiler.ProfilerActivity.CPU
    work()
    with torch.profiler.profile(activities=[kind]) as profile:
        work()
        if cuda:
            torch.cuda.synchronize()
    spent = "self_device_time_total" if cuda else "self_cpu_time_total"
    rows = [(row.key[:70], row.count, getattr(row, spent) / 1e6) for row in profile.key_averages()]
    rows = sorted((row for row in rows if row[2] > 0), key=lambda row: -row[2])
    return Kernels(sum(row[2] for row in rows), sum(row[1] for row in rows), rows[:10])
