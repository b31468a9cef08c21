"""A progress bar for an engine that goes once through images."""

from __future__ import annotations

import sys
from typing import Any

from ignite.engine import Engine, Events
from monai.inferers import SlidingWindowInferer
from tqdm import tqdm

__all__ = ["InferenceBar"]


class InferenceBar:
    """Handler that shows on a terminal how far an engine is: a bar over images, or over the windows of one image."""

    def attach(self, engine: Engine) -> None:
        """Called by ignite."""
        if sys.stderr.isatty():
            engine.add_event_handler(Events.STARTED, self._begin)

    def _begin(self, engine: Engine) -> None:
        count, inferer = len(engine.data_loader), engine.inferer
        if count == 1 and isinstance(inferer, SlidingWindowInferer):
            inferer.progress = True
            return
        bar: tqdm[Any] = tqdm(total=count, desc="images", unit="image")
        engine.add_event_handler(Events.ITERATION_COMPLETED, lambda _: bar.update())
        engine.add_event_handler(Events.COMPLETED, lambda _: bar.close())
