"""Passes that are computed although a graph of their kind is there, since something looks at them."""

from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.nn.modules.module import register_module_forward_hook
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from scd_plugin import SCDUNETR, SCDPrimus
from scd_plugin.networks import replay
from scd_plugin.networks.guidance import StageWatch
from scd_plugin.networks.priors import PRIORS
from tests.networks.graph_stand_in import StandIn, computed, graphs_of, image_of, passes
from tests.networks.test_idioms import BUILD, build

EDGE = 16
pytestmark = pytest.mark.usefixtures("stand_in")


class Watching(TorchDispatchMode):
    """Counts convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen += func is torch.ops.aten.convolution.default
        return func(*args, **(kwargs or {}))


def hooked(register: Callable[[Any, Callable[..., None]], Any]) -> Callable[[Any, Tensor], int]:
    """How often a hook was called in two passes."""

    def run(net: Any, image: Tensor) -> int:
        calls: list[int] = []
        handle = register(net, lambda *_: calls.append(1))
        passes(net, image, 2)
        handle.remove()
        return len(calls)

    return run


class TestComputedAsEver:
    """Whatever looks at a pass sees it, and gets what it would get without graphs."""

    @pytest.fixture(autouse=True)
    def _nothing_is_replayed(self, recorded: Any) -> Iterator[None]:
        assert graphs_of(recorded) == 1
        yield
        assert (len(StandIn.recorded), StandIn.replays) == (1, 1)

    @pytest.mark.parametrize(
        "register",
        [
            lambda net, hook: net.register_forward_hook(hook),
            lambda net, hook: net.decoder.register_forward_pre_hook(hook),
            lambda net, hook: net.encoder.blocks[1].register_forward_hook(hook, with_kwargs=True, always_call=True),
        ],
        ids=["own", "pre", "deep"],
    )
    def test_hooks(self, recorded: Any, register: Any) -> None:
        assert hooked(register)(recorded, image_of(recorded)) == 2

    def test_hooks_of_all_modules(self, recorded: Any) -> None:
        assert hooked(lambda _, hook: register_module_forward_hook(hook))(recorded, image_of(recorded)) > 100

    def test_stages_are_seen(self, recorded: Any) -> None:
        watch, image = StageWatch(recorded), image_of(recorded)
        for _ in range(5):
            recorded(image)
            assert len(watch.take()) == 2

    def test_training(self, recorded: Any) -> None:
        recorded.train()
        image = image_of(recorded)
        assert not torch.equal(recorded(image), recorded(image))
        recorded.eval().encoder.train()
        passes(recorded, image, replay.WARM_UP + 1)
        assert not torch.equal(recorded(image), recorded(image))

    def test_gradients(self, recorded: Any) -> None:
        with torch.enable_grad():
            recorded(image_of(recorded)).square().mean().backward()
        assert recorded.encoder.norm.weight.grad.any()
        # a training needs their memory
        assert graphs_of(recorded) == 0

    def test_forward_gradients(self, recorded: Any) -> None:
        image = image_of(recorded)
        with forward_ad.dual_level():
            recorded(image)

    def test_weights_of_another(self, recorded: Any) -> None:
        other, image = BUILD["unetr"]().eval(), image_of(recorded)
        for _ in range(5):
            # plain tensors, as `state_dict` gives them
            logits = torch.func.functional_call(recorded, other.state_dict(), (image,))
            assert torch.equal(logits, computed(other, image))

    @pytest.mark.filterwarnings("ignore:There is a performance drop because we have not yet implemented the batching")
    def test_vmap(self, recorded: Any) -> None:
        images = torch.stack([image_of(recorded) for _ in range(2)])
        for _ in range(5):
            logits = torch.vmap(recorded)(images)
        torch.testing.assert_close(logits, torch.stack([computed(recorded, image) for image in images]))

    @pytest.mark.parametrize("mode", [Watching, FlopCounterMode], ids=["any", "flops"])
    def test_counters(self, recorded: Any, mode: Any) -> None:
        image, seen = image_of(recorded), []
        for _ in range(2):
            with (counter := mode() if mode is Watching else mode(display=False)):
                recorded(image)
            seen.append(counter.seen if mode is Watching else counter.get_total_flops())
        assert seen[0] == seen[1] > 0

    def test_a_device_as_context(self, recorded: Any) -> None:
        with torch.device("cpu"):
            recorded(image_of(recorded))

    def test_fake_tensors(self, recorded: Any) -> None:
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            logits = recorded(mode.from_tensor(image_of(recorded)))
        assert logits.shape == (1, 3, EDGE, EDGE, EDGE)

    def test_meta_tensors(self, recorded: Any) -> None:
        logits = recorded(MetaTensor(image_of(recorded), affine=2 * torch.eye(4)))
        assert isinstance(logits, MetaTensor)
        assert logits.affine[0, 0] == 2

    @pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
    @pytest.mark.parametrize("how", ["trace", "script", "export"])
    def test_exported(self, recorded: Any, how: str) -> None:
        image, shape = image_of(recorded), ({0: torch.export.Dim.DYNAMIC},)
        if how == "trace":
            # of a module itself PyTorch traces `forward` alone
            run = torch.jit.trace(nn.Sequential(recorded), image, check_trace=False)
        elif how == "script":
            run = torch.jit.script(recorded)
            assert not hasattr(run, "use_cuda_graphs")
        else:
            run = torch.export.export(recorded, (image_of(recorded, 2),), dynamic_shapes=shape).module()
        for _ in range(5):
            torch.testing.assert_close(run(image), computed(recorded, image), atol=1e-4, rtol=0)

    @pytest.mark.parametrize("in_place", [False, True])
    def test_compiled(self, recorded: Any, in_place: bool) -> None:
        torch.compiler.reset()
        graphs, image = CompileCounter(), image_of(recorded)
        if in_place:
            recorded.compile(fullgraph=True, backend=graphs)
        compiled = recorded if in_place else torch.compile(recorded, fullgraph=True, backend=graphs)
        for _ in range(5):
            assert torch.equal(compiled(image), recorded.forward(image))
        assert graphs.frame_count == 1

    def test_a_compiled_part(self, recorded: Any, caplog: pytest.LogCaptureFixture) -> None:
        recorded.decoder = torch.compile(recorded.decoder, backend="eager")
        image = image_of(recorded)
        for _ in range(5):
            assert torch.equal(recorded(image), computed(recorded, image))
        assert [one for one in caplog.records if one.levelno >= logging.WARNING] == []

    def test_a_part_of_another_recording(self, recorded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
        recorded(image_of(recorded))

    def test_an_image_by_name(self, recorded: Any) -> None:
        recorded(image=image_of(recorded))

    def test_switched_off(self, recorded: Any) -> None:
        recorded.use_cuda_graphs = False
        recorded(image_of(recorded))
        assert graphs_of(recorded) == 0

    def test_switched_off_by_the_environment(self, recorded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SCD_CUDA_GRAPHS", "0")
        recorded(image_of(recorded))
        assert graphs_of(recorded) == 0
        monkeypatch.setenv("SCD_CUDA_GRAPHS", "no")
        with pytest.raises(ValueError, match=r"SCD_CUDA_GRAPHS must be 1, to replay .*, or 0, to compute .*; got 'no'"):
            recorded(image_of(recorded))

    @pytest.mark.parametrize(
        "how",
        [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))],  # noqa: S301
        ids=["deepcopy", "pickle"],
    )
    def test_copies_know_nothing_of_it(self, recorded: Any, how: Any) -> None:
        fresh, image = BUILD["unetr"](), image_of(recorded)
        assert vars(recorded).keys() == vars(fresh).keys()
        assert recorded.state_dict().keys() == fresh.state_dict().keys()
        again = how(recorded)
        passes(again, image, replay.WARM_UP)
        assert graphs_of(again) == 0
        assert torch.equal(computed(again, image), computed(recorded, image))

    def test_images_that_do_not_fit(self, recorded: Any) -> None:
        for _ in range(5):
            with pytest.raises(ValueError, match=r"image must have shape \(B, 2, 16, 16, 16\)"):
                recorded(torch.zeros(1, 2, 16, 16, 24))
        with pytest.raises(AttributeError):
            recorded("image")


class Stranger(nn.Module):
    """A decoder of one's own that does more in a pass than to answer."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what, self.number, self.last = what, 0, torch.zeros(1)

    def forward(self, image: Tensor, taps: list[Tensor]) -> Any:
        logits = image + taps[0].mean()
        if self.what == "counts":
            self.number += 1
        elif self.what == "flips":
            self.number = 1 - self.number
        elif self.what == "hides":
            # it lies nowhere
            self.last = torch.eye(3).to_sparse()
        elif self.what == "remembers":
            self.last = logits
        return Answer(logits) if self.what == "class" else {"logits": logits, "sum": (logits.sum(), logits)}


class Answer:
    def __init__(self, logits: Tensor) -> None:
        self.logits = logits


class TestDecodersOfOnesOwn:
    @pytest.mark.parametrize("what", ["counts", "flips", "remembers", "hides", "class"])
    def test_more_than_tensors_is_computed(self, net: Any, what: str) -> None:
        net.decoder = Stranger(what).eval()
        for number in range(1, 10):
            given = net(image_of(net))
            assert net.decoder.number == {"counts": number, "flips": number % 2}.get(what, 0)
            if what == "remembers":
                assert net.decoder.last is given["logits"]
        assert StandIn.recorded == []

    def test_any_structure(self, net: Any) -> None:
        net.decoder = Stranger("").eval()
        passes(net, image_of(net), replay.WARM_UP)
        images = [image_of(net), image_of(net)]
        given = [net(image) for image in images]
        assert StandIn.replays == 2
        for image, answer in zip(images, given):
            expected = computed(net, image)
            assert torch.equal(answer["logits"], expected["logits"])
            assert torch.equal(answer["sum"][0], expected["sum"][0])


class OnDevice(TorchDispatchMode):
    """Names what a pass makes on, or takes from, another device than the meta device."""

    def __init__(self) -> None:
        super().__init__()
        self.others: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = func(*args, **(kwargs or {}))
        tensors = [one for one in pytree.tree_leaves((args, kwargs, given)) if isinstance(one, Tensor)]
        if any(one.device.type != "meta" for one in tensors):
            self.others.append(str(func))
        return given


MORE = {
    **{f"prior {prior}": build(SCDPrimus, prior=prior, num_register_tokens=2) for prior in PRIORS},
    "primus V3": build(SCDPrimus, version=3),
    "random": build(SCDUNETR, sampling="random"),
    "tokens": build(SCDUNETR, memory="tokens"),
}


@pytest.mark.parametrize("name", [*BUILD, *MORE])
def test_no_pass_needs_the_processor(name: str) -> None:
    """A value that the processor reads or brings can't be recorded; on the meta device there is none to read."""
    net = {**BUILD, **MORE}[name]().eval().to("meta")
    image = image_of(net).to("meta")
    with OnDevice() as seen:
        net(image)
    assert seen.others == []
