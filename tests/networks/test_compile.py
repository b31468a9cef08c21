"""One graph, without a break: what torch.compile needs of token moves. The `slow` test also generates code."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from scd_plugin import SCDUNETR

CONTROL = {"completion": "mask_token", "sampling": "random", "deep_supervision": True}
LIGHT = {"decoder": "light", "completion": "assembly_to_kept", "deep_supervision": True}
SUBVOXEL = {**LIGHT, "decoder": "subvoxel"}
TOKENS = {"memory": "tokens"}
POOLED = {"memory": "pooled", "img_size": (12, 20, 28)}
FLAT = {"spatial_dims": 2, "img_size": (24, 40), "patch_size": 8}
ODD = {"img_size": (6, 20, 28), "patch_size": (2, 4, 4)}


@pytest.fixture(autouse=True)
def _reset() -> None:
    torch.compiler.reset()


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [{}, {"keep_ratio": 1}, CONTROL, LIGHT, SUBVOXEL, TOKENS, POOLED, FLAT, ODD],
    ids=str,
)
def test_full_graph(small: Callable[..., SCDUNETR], changes: dict[str, object]) -> None:
    net = small(**{"num_layers": 2, "prune_after": (1, 2), "img_size": 16, "patch_size": 4, **changes})
    image = torch.randn(2, *net.image_shape)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    outputs = compiled(image)
    loss = sum(output.square().mean() for output in (outputs if isinstance(outputs, list) else [outputs]))
    loss.backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    net.decoder.deep_supervision = False
    net.eval()
    with torch.no_grad():
        torch.testing.assert_close(compiled(image), net(image))


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_same_losses_and_logits(small: Callable[..., SCDUNETR], backend: str) -> None:
    def train(compiled: bool) -> tuple[list[float], torch.Tensor]:
        torch.manual_seed(0)
        # without noise, which the two would draw in different orders
        net = small(num_layers=2, prune_after=(1,), img_size=16, patch_size=4, sampling="topk")
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
        run = torch.compile(net, fullgraph=True, backend=backend) if compiled else net
        image, values = torch.randn(2, 2, 16, 16, 16), []
        net.eval()
        with torch.no_grad():
            logits = run(image)
        net.train()
        for _ in range(4):
            loss = run(image).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            values.append(loss.item())
        return values, logits

    (losses, logits), (expected_losses, expected_logits) = train(compiled=True), train(compiled=False)
    assert losses == pytest.approx(expected_losses, rel=1e-4)
    torch.testing.assert_close(logits, expected_logits, atol=1e-4, rtol=0)


@pytest.mark.slow
def test_generated_code_in_half_precision(small: Callable[..., SCDUNETR]) -> None:
    net, image = small(num_layers=2, prune_after=(1,), img_size=16, patch_size=4), torch.randn(2, 2, 16, 16, 16)
    compiled = torch.compile(net, fullgraph=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        compiled(image).float().square().mean().backward()
        assert all(torch.isfinite(parameter.grad).all() for parameter in net.parameters())
        net.eval()
        with torch.no_grad():
            difference = (compiled(image).float() - net(image).float()).abs()
    # a token at the edge of the choice may change sides, so the mean is compared
    assert difference.mean().item() < 0.05


@pytest.mark.parametrize("kind", ["small", "small_primus"])
def test_a_graph_for_each_keep_ratio(kind: str, request: pytest.FixtureRequest) -> None:
    net, graphs, count = request.getfixturevalue(kind)(img_size=16, patch_size=4), CompileCounter(), []
    compiled, image = torch.compile(net, fullgraph=True, backend=graphs), torch.randn(2, 2, 16, 16, 16)
    for keep_ratio in (0.25, 0.5, 0.75, 0.5, 0.25, 0.75):
        net.set_keep_ratio(keep_ratio)
        compiled(image)
        count.append(graphs.frame_count)
    assert count == [1, 2, 3, 3, 3, 3]
