"""Networks that take a stand-in for CUDA graphs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from scd_plugin.networks import replay
from tests.networks.graph_stand_in import StandIn, image_of, install, passes
from tests.networks.test_idioms import BUILD


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """See `install`; gradients are off."""
    install(monkeypatch)
    with torch.no_grad():
        yield
    StandIn.recorded = []


@pytest.fixture
def net(stand_in: None) -> Any:  # noqa: ARG001
    """A network without a graph yet."""
    return BUILD["unetr"]().eval()


@pytest.fixture
def recorded(net: Any) -> Any:
    """A network with one graph."""
    passes(net, image_of(net), replay.WARM_UP + 1)
    assert (len(StandIn.recorded), StandIn.replays) == (1, 1)
    return net
