"""How many passes are recorded, from several threads too, and what happens where recording fails."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import sliding_window_inference
from torch import Tensor, nn

from scd_plugin.networks import replay
from scd_plugin.networks.pass_key import pass_key
from tests.networks.graph_stand_in import StandIn, computed, graphs_of, image_of, passes
from tests.networks.test_idioms import BUILD

EDGE = 16
pytestmark = pytest.mark.usefixtures("stand_in")


class TestHowMany:
    def test_the_oldest_gives_way(self, net: Any) -> None:
        images = [image_of(net, batch) for batch in range(1, replay.MAX_GRAPHS + 2)]
        for image in images[:-1]:
            passes(net, image, replay.WARM_UP + 1)
        assert graphs_of(net) == replay.MAX_GRAPHS
        net(images[0])
        # one more kind has to prove that it stays
        passes(net, images[-1], replay.PATIENCE)
        assert len(StandIn.recorded) == replay.MAX_GRAPHS
        assert torch.equal(net(images[-1]), computed(net, images[-1]))
        assert len(StandIn.recorded) == replay.MAX_GRAPHS + 1
        kept = [key.image[0][0] for key in replay._REPLAYS[net].graphs]
        # 2 was not asked for longest
        assert kept == [3, 4, 1, 5]

    def test_kinds_in_turn_are_not_recorded_over_and_over(self, net: Any) -> None:
        images = [image_of(net, batch) for batch in range(1, replay.MAX_GRAPHS + 3)]
        for _ in range(replay.PATIENCE // 2):
            for image in images:
                net(image)
        assert len(StandIn.recorded) == replay.MAX_GRAPHS

    def test_what_never_comes_again_is_forgotten(self, net: Any) -> None:
        for number in range(replay._MAX_COUNTED + 5):
            net.set_keep_ratio((number + 1) / 100)
            net(image_of(net))
        assert len(replay._REPLAYS[net].counts) == replay._MAX_COUNTED
        assert StandIn.recorded == []

    def test_memory_is_shared_in_a_place_alone(self, net: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        stream = 0

        def elsewhere(network: nn.Module, image: Tensor) -> Any:
            key = pass_key(network, image)
            return key._replace(place=(image.device, stream)) if key else None

        monkeypatch.setattr(replay, "pass_key", elsewhere)
        for stream in (0, 1):  # noqa: B007
            for batch in (1, 2):
                passes(net, image_of(net, batch), replay.WARM_UP + 1)
        first, second, third, fourth = StandIn.recorded
        assert [one.others for one in StandIn.recorded] == [[], [first], [], [third]]
        assert StandIn.replays == 4
        assert graphs_of(net) == 4
        assert second.others != fourth.others

    def test_threads(self, recorded: Any) -> None:
        images = [image_of(recorded) for _ in range(40)]

        def run(image: Tensor) -> Tensor:
            with torch.no_grad():
                return recorded(image)

        with ThreadPoolExecutor(4) as pool:
            given = list(pool.map(run, images))
        assert StandIn.replays == 41
        assert all(torch.equal(logits, computed(recorded, image)) for image, logits in zip(images, given))


class Failure(NamedTuple):
    error: Exception
    said: str


FAILURES = {
    "memory": Failure(
        torch.OutOfMemoryError("CUDA out of memory. Tried\nmore"), "OutOfMemoryError: CUDA out of memory. Tried"
    ),
    "capture": Failure(RuntimeError("operation not permitted when stream is capturing"), "RuntimeError: operation not"),
    "silent": Failure(AssertionError(), "AssertionError: "),
}


class TestFailures:
    @pytest.mark.parametrize("name", list(FAILURES))
    @pytest.mark.parametrize("when", ["recording", "replaying"])
    def test_computed_from_then_on(
        self, net: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, name: str, when: str
    ) -> None:
        emptied: list[int] = []
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(1))
        image = image_of(net)
        passes(net, image, replay.WARM_UP + (when == "replaying"))
        StandIn.fails = FAILURES[name].error
        for _ in range(10):
            assert torch.equal(net(image), computed(net, image))
        StandIn.fails = None
        passes(net, image, 10)
        assert graphs_of(net) == 0
        assert len(StandIn.recorded) == (when == "replaying")
        assert emptied == [1]
        (said,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
        assert said.startswith("SCDUNETR uses no CUDA graphs from now on, since one failed (" + FAILURES[name].said)
        assert "SCD_CUDA_GRAPHS=0" in said

    def test_other_networks_go_on(self, net: Any) -> None:
        StandIn.fails = RuntimeError("no")
        passes(net, image_of(net), replay.WARM_UP + 1)
        StandIn.fails = None
        other = BUILD["primus"]().eval()
        passes(other, image_of(other), replay.WARM_UP + 1)
        assert (graphs_of(net), graphs_of(other)) == (0, 1)

    def test_a_state_that_can_not_be_told(self, net: Any, caplog: pytest.LogCaptureFixture) -> None:
        net.itself = [1]
        net.itself.append(net.itself)
        image = image_of(net)
        passes(net, image, 5)
        assert torch.equal(net(image), computed(net, image))
        assert "RecursionError" in caplog.text

    def test_a_state_that_can_be_told_no_more(self, recorded: Any, caplog: pytest.LogCaptureFixture) -> None:
        recorded.register_buffer("hidden", torch.eye(3).to_sparse())
        recorded.to(torch.float32)
        assert graphs_of(recorded) == 0
        assert "CUDA graphs from now on" in caplog.text

    def test_interrupts_are_not_kept(self, net: Any) -> None:
        passes(net, image_of(net), replay.WARM_UP)
        StandIn.fails = KeyboardInterrupt()  # type: ignore[assignment]
        with pytest.raises(KeyboardInterrupt):
            net(image_of(net))


def test_behind_a_sliding_window(net: Any) -> None:
    image = MetaTensor(torch.randn(1, 2, 20, 24, 40))
    expected = sliding_window_inference(image, (EDGE,) * 3, 2, lambda windows: computed(net, windows), overlap=0.5)
    logits = sliding_window_inference(image, (EDGE,) * 3, 2, net, overlap=0.5)
    assert torch.equal(logits, expected)
    assert StandIn.replays == 2 * 2 * 4 // 2 - replay.WARM_UP
    assert len(StandIn.recorded) == 1
