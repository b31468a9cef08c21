from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scd_plugin import SCDUNETR
from scd_plugin.bench.bench_settings import BenchSettings
from scd_plugin.bench.timed_steps import forward_step, random_batch, seconds_per_step, training_step


def settings(**changes: Any) -> BenchSettings:
    given = {"in_channels": 1, "out_channels": 3, "crop": (4, 4, 4), "keep_ratio": 1, "batch": 2}
    return BenchSettings(name="btcv", **{**given, **changes})


class Seen(nn.Module):
    """A layer that remembers in what state it ran."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv3d(1, 3, 1)
        self.calls: list[tuple[bool, bool, torch.dtype]] = []

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = self.layer(image)
        self.calls.append((self.training, torch.is_inference_mode_enabled(), out.dtype))
        return out


def test_batch_is_the_same_for_all() -> None:
    asked = settings(in_channels=2, out_channels=5, crop=(8, 8, 16), batch=3)
    (image, label), (again, _) = random_batch(asked), random_batch(asked)
    assert image.shape == (3, 2, 8, 8, 16)
    assert label.shape == (3, 1, 8, 8, 16)
    assert label.unique().tolist() == [0, 1, 2, 3, 4]
    assert torch.equal(image, again)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_forward_step_is_inference(dtype: str) -> None:
    network = Seen().train()
    forward_step(network, settings(dtype=dtype))()
    assert network.calls == [(False, True, getattr(torch, dtype))]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_training_step_trains(dtype: str) -> None:
    network = Seen().eval()
    before = network.layer.weight.detach().clone()
    training_step(network, settings(dtype=dtype))()
    assert network.calls == [(True, False, getattr(torch, dtype))]
    assert not torch.equal(network.layer.weight, before)
    gradients = torch.cat(
        [parameter.grad.flatten() for parameter in network.parameters() if parameter.grad is not None]
    )
    assert gradients.norm() <= 1 + 1e-5


def test_no_step_is_skipped_for_want_of_a_scale() -> None:
    """A scaler that begins with 65536 leaves out the optimizer until its scale is small enough."""
    gradients: list[Tensor] = []

    def seen(_: nn.Module, __: object, out: Tensor) -> None:
        out.register_hook(gradients.append)

    torch.manual_seed(0)
    network = Seen()
    network.register_forward_hook(seen)
    before = network.layer.weight.detach().clone()
    training_step(network, settings(dtype="float16"))()
    # of a mean over voxels and classes, unscaled
    assert 0 < gradients[0].abs().max() < 0.1
    assert not torch.equal(network.layer.weight, before)


def test_deep_supervision_is_trained_and_off_at_inference(small: Callable[..., SCDUNETR]) -> None:
    network = small(in_channels=1, deep_supervision=True)
    asked = settings(crop=(32, 32, 32), batch=1)
    image, _ = random_batch(asked)
    training_step(network, asked)()
    assert isinstance(network(image), list)
    assert all(parameter.grad is not None for parameter in network.decoder.heads.parameters())
    forward_step(network, asked)()
    assert isinstance(network(image), Tensor)


def test_every_step_is_taken() -> None:
    taken: list[int] = []
    seconds = seconds_per_step(lambda: taken.append(1), 3, cuda=False)
    assert len(taken) == 3
    assert seconds > 0


def test_gpu_is_timed_by_its_own_clock(fake_events: Callable[[float], None]) -> None:
    """The time of its kernels, not that of the calls that start them; what was started before is not in it."""
    fake_events(7)
    assert seconds_per_step(lambda: fake_events(0.25), 4, cuda=True) == pytest.approx(0.25)
