"""Training for any keep ratio in a bundle."""

from __future__ import annotations

from ignite.engine import Engine, Events

from scd_plugin.networks.drawn_keep_ratio import DrawnKeepRatio

__all__ = ["DrawKeepRatio"]


class DrawKeepRatio(DrawnKeepRatio):
    """Handler for a training engine: every step keeps another share of the tokens; see `DrawnKeepRatio`."""

    def attach(self, engine: Engine) -> None:
        """Called by ignite."""
        engine.add_event_handler(Events.ITERATION_STARTED, lambda: self.draw(engine.state.iteration))
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.reset)
