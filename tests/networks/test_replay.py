"""Passes that are recorded and replayed: everything but the recording itself, for which a stand-in is taken."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from scd_plugin.networks import replay
from scd_plugin.networks.pass_key import memory_format, pass_key
from tests.networks.graph_stand_in import StandIn, computed, image_of, passes
from tests.networks.test_idioms import BUILD

EDGE = 16
pytestmark = pytest.mark.usefixtures("stand_in")


@pytest.mark.parametrize("name", list(BUILD))
def test_replayed_is_computed(name: str) -> None:
    net = BUILD[name]().eval()
    for _ in range(replay.WARM_UP + 3):
        image = image_of(net)
        assert torch.equal(net(image), computed(net, image))
    assert (len(StandIn.recorded), StandIn.replays) == (1, 3)


class TestWhatIsGiven:
    def test_stays_when_the_next_comes(self, recorded: Any) -> None:
        images = [image_of(recorded) for _ in range(3)]
        given = [recorded(image) for image in images]
        assert StandIn.replays == 4
        for image, logits in zip(images, given):
            assert torch.equal(logits, computed(recorded, image))

    def test_may_be_changed(self, recorded: Any) -> None:
        image = image_of(recorded)
        recorded(image).zero_()
        assert torch.equal(recorded(image), computed(recorded, image))

    def test_does_not_follow_the_image(self, recorded: Any) -> None:
        image = image_of(recorded)
        expected, logits = computed(recorded, image), recorded(image)
        image.zero_()
        assert torch.equal(logits, expected)

    def test_lists(self, small: Callable[..., Any]) -> None:
        net = small(deep_supervision=True).eval()
        passes(net, image_of(net), replay.WARM_UP)
        images = [image_of(net), image_of(net)]
        given = [net(image) for image in images]
        assert StandIn.replays == 2
        for image, outputs in zip(images, given):
            expected = computed(net, image)
            assert isinstance(outputs, list)
            assert len(outputs) == len(expected) > 1
            assert all(map(torch.equal, outputs, expected))

    @pytest.mark.parametrize("first", [torch.no_grad, torch.inference_mode])
    def test_in_and_out_of_inference_mode(self, net: Any, first: Any) -> None:
        image = image_of(net)
        with first():
            passes(net, image, replay.WARM_UP + 1)
        with torch.inference_mode():
            assert net(torch.randn_like(image)).is_inference()
        logits = net(image)
        assert not logits.is_inference()
        assert torch.equal(logits, computed(net, image))
        assert (len(StandIn.recorded), StandIn.replays) == (1, 3)


@torch.no_grad()
def again(module: nn.Module) -> None:
    """Other numbers in a module's own parameters, in place."""
    for parameter in module.parameters(recurse=False):
        parameter.add_(0.1)


REPLACED: dict[str, Callable[[Any], Any]] = {
    "assign": lambda net: net.load_state_dict(
        {name: weight + 1 for name, weight in net.state_dict().items()}, assign=True
    ),
    "double": lambda net: net.double(),
    "there and back": lambda net: net.double().float().apply(again),
    "data": lambda net: setattr(net.encoder.norm.weight, "data", net.encoder.norm.weight + 1),
    "parameter": lambda net: setattr(net.encoder.norm, "weight", nn.Parameter(net.encoder.norm.weight + 1)),
    "buffer": lambda net: setattr(net.encoder, "grid_idx", net.encoder.grid_idx.clone()),
    "part": lambda net: setattr(net, "decoder", copy.deepcopy(net.decoder).apply(again)),
    "layer less": lambda net: net.encoder.blocks.__setitem__(0, nn.Identity().eval()),
    "channels last": lambda net: net.to(memory_format=torch.channels_last_3d).apply(again),
}


class TestWeights:
    def test_loaded_in_place_are_read(self, recorded: Any) -> None:
        image, before = image_of(recorded), recorded(image_of(recorded))
        for _ in range(3):
            recorded.load_state_dict({name: torch.randn_like(w) for name, w in recorded.state_dict().items()})
            logits = recorded(image)
            assert torch.equal(logits, computed(recorded, image))
            assert not torch.equal(logits, before)
        assert (len(StandIn.recorded), StandIn.replays) == (1, 5)

    def test_an_optimizers_step_is_read(self, recorded: Any) -> None:
        image = image_of(recorded)
        for parameter in recorded.parameters():
            parameter.grad = torch.ones_like(parameter)
        torch.optim.SGD(recorded.parameters(), lr=0.1).step()
        assert torch.equal(recorded(image), computed(recorded, image))
        assert StandIn.replays == 2

    @pytest.mark.parametrize("how", list(REPLACED))
    def test_replaced_are_read(self, recorded: Any, how: str) -> None:
        REPLACED[how](recorded)
        image = image_of(recorded).to(recorded.encoder.norm.weight.dtype)
        assert torch.equal(recorded(image), computed(recorded, image))
        assert StandIn.replays == 1
        passes(recorded, image, replay.WARM_UP)
        assert torch.equal(recorded(image), computed(recorded, image))
        assert StandIn.replays >= 2

    def test_graphs_go_with_the_weights(self, recorded: Any) -> None:
        graph = weakref.ref(StandIn.recorded.pop())
        # as nnU-Net does before every image
        recorded.to("cpu")
        assert graph() is not None
        recorded.double()
        assert graph() is None

    def test_graphs_go_with_the_network(self) -> None:
        lone = BUILD["unetr"]().eval()
        passes(lone, image_of(lone), replay.WARM_UP + 1)
        network, graph = weakref.ref(lone), weakref.ref(StandIn.recorded.pop())
        del lone
        gc.collect()
        assert network() is None
        assert graph() is None


def set_on(path: str, value: Any) -> Callable[[Any], Any]:
    """Sets an attribute of a part, and gives back what undoes it."""
    part, _, name = path.rpartition(".")

    def change(net: Any) -> Callable[[Any], Any]:
        module = net.get_submodule(part)
        before = vars(module).get(name)
        setattr(module, name, value)
        return lambda _: delattr(module, name) if name == "forward" else setattr(module, name, before)

    return change


def dial(keep_ratio: Any) -> Callable[[Any], Any]:
    def change(net: Any) -> Callable[[Any], Any]:
        net.set_keep_ratio(keep_ratio)
        return dial(0.5)

    return change


CHANGES: dict[str, Callable[[Any], Any]] = {
    "keep ratio": dial(0.25),
    "keep ratio of a stage": dial([0.5, 0.25]),
    "all": dial(1),
    "random": set_on("encoder.stages.0.sampling", "random"),
    "supervised": set_on("decoder.deep_supervision", True),
    "tolerance": set_on("encoder.stages.1.tie_tolerance", 0.5),
    "eps": set_on("encoder.norm.eps", 0.5),
    "taps": set_on("num_taps", 7),
    "forward": set_on("decoder.out.forward", lambda x: x.repeat(1, 3, 1, 1, 1)[:, :3] + 1),
}


class TestSettings:
    @pytest.mark.parametrize("name", list(CHANGES))
    def test_changed_and_back(self, recorded: Any, name: str) -> None:
        image, first = image_of(recorded), StandIn.recorded[0]
        before = recorded(image)
        back = CHANGES[name](recorded)
        for _ in range(replay.WARM_UP + 2):
            logits, expected = recorded(image), computed(recorded, image)
            pairs = zip(logits, expected) if isinstance(expected, list) else [(logits, expected)]
            assert all(torch.equal(ours, theirs) for ours, theirs in pairs)
        assert len(StandIn.recorded) == 2
        back(recorded)
        replays = StandIn.replays
        assert torch.equal(recorded(image), before)
        # the graph from before, not a new one
        assert (len(StandIn.recorded), StandIn.replays) == (2, replays + 1)
        assert first in replay._REPLAYS[recorded].graphs.values()

    def test_autocast(self, recorded: Any) -> None:
        image = image_of(recorded)
        with torch.autocast("cpu", torch.bfloat16):
            for _ in range(replay.WARM_UP + 2):
                logits = recorded(image)
                assert logits.dtype == torch.bfloat16
                assert torch.equal(logits, computed(recorded, image))
        with torch.autocast("cpu", torch.float16):
            assert recorded(image).dtype == torch.float16
        assert recorded(image).dtype == torch.float32
        assert (len(StandIn.recorded), StandIn.replays) == (2, 1 + 2 + 1)

    def test_weights_of_autocast_are_not_kept(self, net: Any) -> None:
        """nnU-Net's folds change weights in place; a cast one must not stay."""
        image = image_of(net)
        with torch.autocast("cpu", torch.bfloat16):
            passes(net, image, replay.WARM_UP + 1)
        net.apply(again)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(net(image), computed(net, image))
        assert StandIn.replays == 2

    def test_kernels(self, recorded: Any) -> None:
        """Where the user allows other ones, the pass is another."""
        image = image_of(recorded)
        with sdpa_kernel(SDPBackend.MATH):
            recorded(image)
            assert StandIn.replays == 1
        recorded(image)
        assert StandIn.replays == 2
        torch.use_deterministic_algorithms(mode=True)
        try:
            recorded(image)
        finally:
            torch.use_deterministic_algorithms(mode=False)
        assert StandIn.replays == 2

    def test_images(self, net: Any) -> None:
        first = pass_key(net, image := image_of(net))
        assert pass_key(net, torch.zeros_like(image)) == first
        # a window of a larger image, as it lies there
        assert pass_key(net, torch.zeros(1, 2, EDGE, EDGE, 40)[..., 3:19]) == first
        last = image.contiguous(memory_format=torch.channels_last_3d)
        assert memory_format(last) == torch.channels_last_3d
        others = [last, image.double(), image_of(net, 2)]
        assert len({pass_key(net, one) for one in (image, *others)}) == 4
        assert memory_format(torch.zeros(1, 1, 4, 4).to(memory_format=torch.channels_last)) == torch.contiguous_format
