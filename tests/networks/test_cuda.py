"""The networks on a CUDA device: against the CPU, compiled, and trained as nnU-Net does there, in float16."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

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
