"""One network for any keep ratio: each step of a training keeps another share of the tokens, of a few fixed ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from numbers import Real

import numpy as np

from scd_plugin.networks.family import SCDNetwork

__all__ = ["DrawnKeepRatio", "drawn_ratio"]


def drawn_ratio(keep_ratios: Sequence[float], step: int) -> float:
    """One of the shares, which follows from the number of the step alone: all processes of a training draw the same."""
    return keep_ratios[int(np.random.default_rng(step).integers(len(keep_ratios)))]


class DrawnKeepRatio:
    """Sets a network to a drawn share of tokens for a step, and back to its own afterwards.

    Validation and what is recorded between steps know the network's own share alone. `torch.compile` makes a graph of
    each share, for training and for evaluation, and no more than eight in all.

    Args:
        network: without wrappers.
        keep_ratios: shares in (0, 1], each for all stages; none for the network's own all the time.

    Raises:
        ValueError: if there is a share that is none, or the network prunes nothing.
    """

    def __init__(self, network: SCDNetwork, keep_ratios: Sequence[float]) -> None:
        legal = isinstance(keep_ratios, Sequence) and all(isinstance(one, Real) and 0 < one <= 1 for one in keep_ratios)
        if not legal:
            msg = (
                "keep ratios to draw from must be a list of numbers in (0, 1], shares of tokens kept at each stage; "
                f"got {keep_ratios!r}"
            )
            raise ValueError(msg)
        self.network = network
        self.keep_ratios = keep_ratios
        self._own: list[float] | None = None
        if keep_ratios:
            # refuses a network that prunes nothing
            self.draw(0)
            self.reset()

    def draw(self, step: int) -> None:
        """Keep the share of a step, by its number since the training began."""
        if self.keep_ratios:
            if self._own is None:
                # now, since a checkpoint may have changed it
                self._own = [stage.keep_ratio for stage in self.network.pruning_stages()]
            self.network.set_keep_ratio(drawn_ratio(self.keep_ratios, step))

    def reset(self) -> None:
        """Keep the network's own share again, that from before the first `draw` since."""
        if self._own is not None:
            self.network.set_keep_ratio(self._own)
            self._own = None

    @contextmanager
    def at(self, step: int) -> Iterator[None]:
        """Around a step: keep its share."""
        self.draw(step)
        try:
            yield
        finally:
            self.reset()
