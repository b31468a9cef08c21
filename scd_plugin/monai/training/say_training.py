"""What a bundle is about to train, in one block of the log, and how long it will take."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from time import perf_counter
from typing import Any

import torch.distributed as dist
from ignite.engine import Engine, Events

from scd_plugin.networks.family import SCDNetwork

__all__ = ["SayTraining", "training_in_lines"]

_LOGGER = logging.getLogger(__name__)
# the first ones choose kernels and fill caches
_FIRST_TIMED, _LAST_TIMED = 4, 10


def training_in_lines(
    network: SCDNetwork, *, cases: Mapping[str, int], channels: Sequence[str], classes: Sequence[str],
    spacing: Sequence[float], device: str, epochs: int, steps: int,
) -> list[str]:  # fmt: skip
    """Describe a training, a line for each thing.

    Args:
        network: without wrappers.
        cases: how many there are, by what they are for.
        channels: names of the images' channels.
        classes: names of classes or regions, without background.
        spacing: mm, of the voxels that the network sees.
        device: where it is trained.
        epochs: of the schedule.
        steps: of an epoch.
    """
    tokens, size = _by(network.token_size()), network.preset or "of your own"
    stages = network.pruning_stages()
    kept = ", ".join(f"{stage.keep_ratio:g}" for stage in stages) if stages else "all"
    number = sum(parameter.numel() for parameter in network.parameters())
    rows = {
        "cases": ", ".join(f"{count} for {use}" for use, count in cases.items()),
        "channels": ", ".join(channels),
        "classes": ", ".join(classes),
        "spacing": f"{_by(spacing)} mm",
        "crop": f"{_by(network.image_shape[1:])} voxels, tokens of {tokens}, kept at each stage: {kept}",
        "network": f"{type(network).__name__}, size {size}, {number / 1e6:.1f} million parameters",
        "length": f"{epochs} epochs of {steps} steps on {device}",
    }
    return [f"{name + ':':<10}{value}" for name, value in rows.items()]


def _by(numbers: Sequence[float]) -> str:
    return " x ".join(f"{number:g}" for number in numbers)


class SayTraining:
    """Handler for a training engine: says before the first step what is trained, and after some how long it takes.

    Args:
        network: without a wrapper, such as that for several processes.
        datalist: cases by their use, `training` and `validation`.
        channels: names of the images' channels.
        classes: names of classes or regions, without background.
        spacing: mm.
    """

    def __init__(
        self, network: SCDNetwork, datalist: Mapping[str, Sequence[Any]], *, channels: Sequence[str],
        classes: Sequence[str], spacing: Sequence[float],
    ) -> None:  # fmt: skip
        self._network = network
        self._cases = {use: len(cases) for use, cases in datalist.items()}
        self._named: dict[str, Any] = {"channels": channels, "classes": classes, "spacing": spacing}
        self._started = 0.0
        self._seconds: list[float] = []

    def attach(self, engine: Engine) -> None:
        """Called by ignite."""
        if dist.is_available() and dist.is_initialized() and dist.get_rank() > 0:
            return
        engine.add_event_handler(Events.STARTED, self._say)
        # waiting for data counts
        engine.add_event_handler(Events.GET_BATCH_STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._end)

    def _say(self, engine: Engine) -> None:
        device = next(self._network.parameters()).device.type
        lines = training_in_lines(
            self._network, cases=self._cases, device=device, epochs=engine.state.max_epochs,
            steps=engine.state.epoch_length, **self._named,
        )  # fmt: skip
        _LOGGER.info("what is trained\n  %s", "\n  ".join(lines))

    def _begin(self) -> None:
        self._started = perf_counter()

    def _end(self, engine: Engine) -> None:
        self._seconds.append(perf_counter() - self._started)
        if len(self._seconds) < _LAST_TIMED:
            return
        timed = self._seconds[_FIRST_TIMED - 1 :]
        seconds = sum(timed) / len(timed)
        left = engine.state.max_epochs * engine.state.epoch_length - engine.state.iteration
        time = timedelta(seconds=round(seconds * left))
        _LOGGER.info("%.2f s a step: %d more steps take about %s, without validations", seconds, left, time)
        engine.remove_event_handler(self._begin, Events.GET_BATCH_STARTED)
        engine.remove_event_handler(self._end, Events.ITERATION_COMPLETED)
