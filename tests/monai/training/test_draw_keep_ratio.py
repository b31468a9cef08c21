from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from ignite.engine import Engine, Events

from scd_plugin import SCDUNETR
from scd_plugin.monai import DrawKeepRatio
from scd_plugin.networks.drawn_keep_ratio import drawn_ratio

RATIOS = [0.25, 0.75]


def test_each_iteration_draws_and_the_end_of_an_epoch_does_not(small: Callable[..., SCDUNETR]) -> None:
    net, seen, between = small(img_size=16), [], []
    engine = Engine(lambda *_: seen.append(net.pruning_stages()[0].keep_ratio))
    DrawKeepRatio(net, RATIOS).attach(engine)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: between.append(net.arguments["keep_ratio"]))
    engine.run([torch.zeros(1)] * 4, max_epochs=2)
    assert seen == [drawn_ratio(RATIOS, step) for step in range(1, 9)]
    assert set(seen) == set(RATIOS)
    assert between == [0.5, 0.5]


def test_refused(small: Callable[..., SCDUNETR]) -> None:
    with pytest.raises(ValueError, match=r"keep ratios to draw from must be a list of numbers in \(0, 1\]"):
        DrawKeepRatio(small(img_size=16), [0.5, 2])
