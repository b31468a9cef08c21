"""Stands in for a CUDA graph where there is no CUDA device.

It answers as a graph does: with the weights where they lay when it was recorded, whatever the network has become, and
into the same tensors each time.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from scd_plugin import SCDNetwork
from scd_plugin.networks import replay
from scd_plugin.networks.cast_weights import cast_copy
from scd_plugin.switches import CUDA_GRAPHS


class StandIn:
    """See `CudaGraph`."""

    recorded: ClassVar[list[StandIn]] = []
    replays: ClassVar[int] = 0
    fails: ClassVar[Exception | None] = None

    def __init__(self, network: nn.Module, image: Tensor, others: Sequence[StandIn] = ()) -> None:
        if self.fails is not None:
            raise self.fails
        self.others = list(others)
        self.autocast = {
            "enabled": torch.is_autocast_enabled("cpu"),
            "dtype": torch.get_autocast_dtype("cpu"),
            "cache_enabled": False,
        }
        with torch.inference_mode(mode=False), torch.no_grad():
            lent: dict[int, Any] = {id(one): nn.Parameter(one.data) for one in network.parameters()}
            lent |= {id(one): one.data for one in network.buffers()}
            self.network, self.image = copy.deepcopy(network, lent), image.clone()
            self.copied = cast_copy(self.network, self.autocast["dtype"]) if self.autocast["enabled"] else None
            self.output = self.run()
        StandIn.recorded.append(self)

    def run(self) -> Any:
        with torch.autocast("cpu", **self.autocast):
            if self.copied is None:
                return nn.Module.__call__(self.network, self.image)
            self.copied.renew()
            return nn.Module.__call__(self.copied.network, self.image)

    def __call__(self, image: Tensor) -> Any:
        if self.fails is not None:
            raise self.fails
        StandIn.replays += 1
        self.image.copy_(image)
        with torch.inference_mode(mode=False), torch.no_grad():
            pytree.tree_map(lambda to, new: to.copy_(new), self.output, self.run())
        return self.output


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on images on a CPU are taken for images on CUDA, and none was recorded."""
    monkeypatch.setattr(replay, "CudaGraph", StandIn)
    # which replays, too; `test_replay_check.py` has it
    monkeypatch.setattr(replay, "check_replay", lambda *_: None)
    monkeypatch.setattr(replay, "on_cuda", lambda image: isinstance(image, Tensor))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.delenv(CUDA_GRAPHS, raising=False)
    StandIn.recorded, StandIn.replays, StandIn.fails = [], 0, None


def image_of(net: Any, batch: int = 1) -> Tensor:
    return torch.randn(batch, *net.image_shape)


def computed(net: nn.Module, image: Tensor) -> Any:
    """What the network says without any graph."""
    with torch.no_grad():
        return nn.Module.__call__(net, image)


def passes(net: nn.Module, image: Tensor, number: int) -> None:
    for _ in range(number):
        net(image)


def graphs_of(net: SCDNetwork) -> int:
    replays = replay._REPLAYS.get(net)
    return len(replays.graphs) if replays else 0
