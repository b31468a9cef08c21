"""The recording itself, with what it asks of `torch.cuda` written down instead of done: no graph is made here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scd_plugin.networks.cuda_graph import CudaGraph, renew_state


class Stream:
    def __init__(self, name: str) -> None:
        self.name = name

    def wait_stream(self, other: Stream) -> None:
        CALLS.append(f"{self.name} waits for {other.name}")


class Graph:
    def __init__(self) -> None:
        self.number = sum(call == "graph" for call in CALLS)
        CALLS.append("graph")

    def pool(self) -> str:
        return f"pool of {self.number}"

    def replay(self) -> None:
        CALLS.append("replay")


class Generator:
    def clone_state(self) -> Generator:
        return Generator()

    def graphsafe_set_state(self, state: Generator) -> None:
        CALLS.append(f"new state {state is not self}")


class Doubler(nn.Module):
    """Writes down where it runs."""

    fails = False

    def forward(self, image: Tensor) -> Tensor:
        CALLS.append(f"pass on {current[-1].name}, cache {torch.is_autocast_cache_enabled()}")
        assert not torch.is_inference_mode_enabled()
        assert not torch.is_grad_enabled()
        if self.fails and len(current) > 2:
            raise RuntimeError("not while capturing")
        return 2 * image


CALLS: list[str] = []
current = [Stream("caller")]


class On(AbstractContextManager[None]):
    """As PyTorch's: sets back what was there before."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def __enter__(self) -> None:
        self.depth = len(current)
        current.append(self.stream)

    def __exit__(self, *_: object) -> None:
        del current[self.depth :]


@contextmanager
def recording(_: Graph, *, pool: str | None, stream: Stream, capture_error_mode: str) -> Iterator[None]:
    """As PyTorch's: after a failure it sets nothing back."""
    CALLS.append(f"record into {pool}, {capture_error_mode}")
    current.append(stream)
    yield
    current.pop()


@pytest.fixture(autouse=True)
def _torch_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    CALLS.clear()
    del current[1:]

    for name, stand_in in {
        "device": lambda _: nullcontext(),
        "current_device": lambda: 0,
        "default_generators": (Generator(),),
        "current_stream": lambda: current[-1],
        "Stream": lambda: Stream("side"),
        "stream": On,
        "CUDAGraph": Graph,
        "graph": recording,
    }.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)


RUN = "pass on side, cache False"


def test_in_order() -> None:
    image = torch.randn(1, 1, 4, 4, 4)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        graph = CudaGraph(Doubler(), image)
        assert torch.is_autocast_cache_enabled()
    assert CALLS == [
        "side waits for caller", RUN, "caller waits for side", "graph", "record into None, thread_local", RUN
    ]  # fmt: skip
    CALLS.clear()
    other = torch.randn_like(image)
    given = graph(other)
    assert CALLS == ["replay"]
    # the kernels would have read the new image from where the first one was
    assert torch.equal(given, 2 * image)
    assert torch.equal(graph.image, other)
    assert torch.equal(image, given / 2)


def test_memory_is_shared_on_one_stream() -> None:
    first = CudaGraph(Doubler(), torch.zeros(1, 1, 4, 4))
    second = CudaGraph(Doubler(), torch.zeros(2, 1, 4, 4), [first])
    assert second.stream is first.stream
    assert "record into pool of 0, thread_local" in CALLS


def test_weights_are_cast_by_one_operator(small: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    net = small().eval()
    image, weights = torch.randn(1, *net.image_shape), net.state_dict()
    renewed: list[int] = []
    renew = torch._foreach_copy_
    monkeypatch.setattr(torch, "_foreach_copy_", lambda to, new: renewed.append(len(to)) or renew(to, new))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        first = CudaGraph(net, image)
        assert torch.equal(first.output, nn.Module.__call__(net, image))
        second = CudaGraph(net, torch.cat([image, image]), [first])
        with torch.autocast("cpu", torch.float16):
            third = CudaGraph(net, image, [first, second])
        fourth = CudaGraph(net, image, [third, first])
    assert first.copied
    assert second.copied
    assert third.copied
    assert fourth.copied
    # the pass before the recording, and that which is recorded
    assert renewed == [len(first.copied.originals)] * 8
    for other in (second, fourth):
        assert all(one is other.copied.cast[key] for key, one in first.copied.cast.items())
    assert first.copied.cast.keys().isdisjoint(third.copied.cast)
    assert all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())
    renewed.clear()
    with torch.no_grad():
        assert CudaGraph(net, image).copied is None
    with torch.autocast("cpu", torch.bfloat16):
        assert CudaGraph(Doubler(), image).copied is None
    assert renewed == []


def test_a_failure_sets_the_stream_back() -> None:
    network = Doubler()
    network.fails = True
    with pytest.raises(RuntimeError, match="not while capturing"):
        CudaGraph(network, torch.zeros(1, 1, 4, 4))
    assert [stream.name for stream in current] == ["caller"]
    # or numbers drawn later would raise an error
    assert CALLS[-1] == "new state True"
    assert not torch.is_inference_mode_enabled()
    assert torch.is_grad_enabled()


def test_generators_that_can_not_renew_their_state() -> None:
    renew_state((), 0)
    renew_state((object(),), 0)
    assert CALLS == []


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_the_images_layout_is_kept(layout: torch.memory_format) -> None:
    image = torch.zeros(1, 2, 4, 4, 4).contiguous(memory_format=layout)
    graph = CudaGraph(Doubler(), image)
    assert graph.image.stride() == image.stride()
    window = torch.zeros(1, 2, 4, 4, 9)[..., 2:6]
    assert CudaGraph(Doubler(), window).image.is_contiguous()
