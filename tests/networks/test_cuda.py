"""The networks on a CUDA device: against the CPU, compiled, and trained as nnU-Net does there, in float16."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from scd_plugin.networks import replay
from scd_plugin.switches import CUDA_GRAPHS

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

# without noise, which no two devices draw alike
UNETR: dict[str, Any] = {"sampling": "topk"}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "published": ("small", UNETR),
    "fast": ("small", {**UNETR, "decoder": "light", "completion": "assembly_to_kept", "completion_hidden_size": 24}),
    "sub-voxel": ("small", {**UNETR, "decoder": "subvoxel", "completion": "assembly_to_kept"}),
    "mask token": ("small", {**UNETR, "completion": "mask_token"}),
    "dense": ("small", {"keep_ratio": 1}),
    "2-D": ("small", {**UNETR, "spatial_dims": 2, "img_size": (24, 40), "patch_size": 8}),
    "odd": ("small", {**UNETR, "img_size": (6, 20, 28), "patch_size": (2, 4, 4)}),
    "primus": ("small_primus", {"sampling": "topk", "prior": "entropy"}),
    "primus V3": ("small_primus", {"version": 3, "sampling": "topk"}),
    "primus dense": ("small_primus", {"keep_ratio": 1}),
}
Build = Callable[..., nn.Module]


@pytest.fixture
def build(request: pytest.FixtureRequest) -> Build:
    """A network of `VARIANTS` by name, with other arguments if need be, the same at every call."""

    def make(name: str, **more: Any) -> nn.Module:
        fixture, changes = VARIANTS[name]
        torch.manual_seed(0)
        net: nn.Module = request.getfixturevalue(fixture)(**{**changes, **more})
        return net

    return make


@pytest.fixture(autouse=True)
def _full_precision() -> Iterator[None]:
    """Products of float32 in float32."""
    torch.compiler.reset()
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def image_of(net: Any, batch: int = 2) -> Tensor:
    return torch.randn(batch, *net.image_shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", VARIANTS)
def test_logits_and_gradients_are_the_cpus(build: Build, name: str) -> None:
    on_cpu, on_gpu = build(name), build(name).cuda()
    image = image_of(on_cpu)
    expected, found = on_cpu(image), on_gpu(image.cuda())
    torch.testing.assert_close(found.cpu(), expected, atol=1e-3, rtol=1e-3)
    for logits in (expected, found):
        logits.square().mean().backward()
    for (parameter_name, ours), theirs in zip(on_gpu.named_parameters(), on_cpu.parameters()):
        assert ours.grad is not None
        assert theirs.grad is not None
        error = (ours.grad.cpu() - theirs.grad).norm()
        assert error <= 1e-2 * theirs.grad.norm() + 1e-6, parameter_name


@pytest.mark.parametrize("name", VARIANTS)
def test_compiled_is_eager(build: Build, name: str) -> None:
    net = build(name).cuda()
    image = image_of(net).cuda()
    compiled = torch.compile(net, fullgraph=True)
    compiled(image).square().mean().backward()
    found = [parameter.grad.clone() for parameter in net.parameters() if parameter.grad is not None]
    net.zero_grad()
    net(image).square().mean().backward()
    expected = [parameter.grad for parameter in net.parameters() if parameter.grad is not None]
    assert len(found) == len(expected) == len(list(net.parameters()))
    for ours, theirs in zip(found, expected):
        assert (ours - theirs).norm() <= 1e-2 * theirs.norm() + 1e-6
    net.eval()
    with torch.inference_mode():
        torch.testing.assert_close(compiled(image), net(image), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("name", ["published", "fast", "primus", "primus V3"])
def test_learns_in_float16(build: Build, name: str, compiled: bool) -> None:
    """As nnU-Net trains on CUDA: autocast, a gradient scaler, clipping; with the noise that training draws."""
    net = build(name, sampling="soft_topk").cuda()
    run: Any = torch.compile(net) if compiled else net
    image = image_of(net).cuda()
    label = (image[:, 0] > 0).long()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True)
    scaler = torch.amp.GradScaler("cuda")
    losses = []
    for _ in range(30):
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", dtype=torch.float16):
            loss = nn.functional.cross_entropy(run(image), label)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(net.parameters(), 1)
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    assert all(torch.isfinite(parameter).all() for parameter in net.parameters())
    assert losses[-1] < 0.9 * losses[0]


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> Callable[[nn.Module, Tensor], Tensor]:
    """Logits without a graph."""

    def run(net: nn.Module, image: Tensor) -> Tensor:
        logits: Tensor = nn.Module.__call__(net, image)
        return logits

    monkeypatch.delenv(CUDA_GRAPHS, raising=False)
    return run


@pytest.mark.parametrize("half", [False, True], ids=["float32", "float16"])
@pytest.mark.parametrize("name", VARIANTS)
def test_replayed_is_computed(build: Build, computed: Any, name: str, half: bool) -> None:
    """Two folds and mirrored passes, each answer kept while the next is made; a failed recording would be a warning."""
    net: Any = build(name).cuda().eval()
    other = {
        key: weight + 0.01 * weight.std() if weight.numel() > 1 else weight for key, weight in net.state_dict().items()
    }
    with torch.inference_mode(), torch.autocast("cuda", dtype=torch.float16, enabled=half):
        for weights in ({key: weight.clone() for key, weight in net.state_dict().items()}, other):
            net.load_state_dict(weights)
            image = image_of(net, 1).cuda()
            mirrored = [image, *[image.flip(axis) for axis in range(2, image.ndim)]] * 3
            given = [net(one) for one in mirrored]
            for one, logits in zip(mirrored, given):
                expected = computed(net, one)
                assert (logits - expected).float().norm() <= 1e-2 * expected.float().norm()
    replays = replay._REPLAYS[net]
    assert not replays.failed
    assert len(replays.graphs) == 1


def test_replays_share_memory_and_give_it_back(build: Build, computed: Any) -> None:
    net: Any = build("published").cuda().eval()
    with torch.inference_mode():
        for batch in (1, 2, 1, 2):
            for _ in range(replay.WARM_UP + 1):
                image = image_of(net, batch).cuda()
                torch.testing.assert_close(net(image), computed(net, image), atol=1e-4, rtol=1e-4)
    graphs = list(replay._REPLAYS[net].graphs.values())
    assert len(graphs) == 2
    assert graphs[0].graph.pool() == graphs[1].graph.pool()
    net.half()
    assert not replay._REPLAYS[net].graphs


def test_a_thread_beside_a_recording(build: Build, computed: Any) -> None:
    """As nnU-Net's, which brings the next windows meanwhile."""
    net: Any = build("published").cuda().eval()
    stop = Event()

    def bring() -> int:
        number = 0
        while not stop.is_set():
            torch.randn(1 + number % 7, 64, 64, 64).to("cuda")
            number += 1
        return number

    with ThreadPoolExecutor(1) as pool, torch.inference_mode():
        bringing = pool.submit(bring)
        try:
            for _ in range(replay.WARM_UP + 5):
                image = image_of(net, 1).cuda()
                torch.testing.assert_close(net(image), computed(net, image), atol=1e-4, rtol=1e-4)
        finally:
            stop.set()
    assert bringing.result() > 0
    assert len(replay._REPLAYS[net].graphs) == 1


@pytest.mark.parametrize("name", ["published", "fast", "dense"])
def test_attention_may_be_flash(build: Build, name: str) -> None:
    """No mask, dtype or layout of ours keeps the fastest kernel away: with no other allowed, it runs."""
    net = build(name).cuda().eval()
    image = image_of(net).cuda()
    with torch.inference_mode(), torch.autocast("cuda", dtype=torch.float16):
        expected = net(image)
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            found = net(image)
    assert (found.float() - expected.float()).abs().mean() < 0.05
