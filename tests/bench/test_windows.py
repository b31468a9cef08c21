from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from scd_plugin.bench.entries import Entry
from scd_plugin.bench.settings import SETTINGS, num_windows
from scd_plugin.bench.windows import Windows, volume_step
from scd_plugin.bench.worker import Subject

TINY = replace(SETTINGS["quick"], crop=(8, 8, 16), overlap=0.5)


class Sign(nn.Module):
    """Class 1 where the image is above 0; remembers the shapes that it saw, and whether it was to train."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, ...]] = []
        self.states: set[tuple[bool, bool]] = set()

    def forward(self, image: Tensor) -> Tensor:
        self.seen.append(tuple(image.shape))
        self.states.add((self.training, torch.is_inference_mode_enabled()))
        return torch.cat((-image, image), dim=1)


@pytest.mark.parametrize(
    ("volume", "overlap"),
    [((8, 8, 16), 0.5), ((12, 9, 17), 0.5), ((20, 8, 40), 0.25), ((5, 16, 16), 0.0), ((9, 8, 16), 0.95)],
    ids=["a window", "a little more", "quarter overlap", "smaller on an axis", "a voxel on"],
)
def test_windows_cover_a_volume(volume: tuple[int, ...], overlap: float) -> None:
    network = Sign().eval()
    settings = replace(TINY, overlap=overlap)
    noise = torch.randn(1, *volume, generator=torch.Generator().manual_seed(3))
    label = Windows(network, settings, nullcontext)(noise)
    assert torch.equal(label, (noise > 0).float())
    assert set(network.seen) == {(1, 1, 8, 8, 16)}
    assert len(network.seen) == num_windows(volume, settings.crop, overlap)


def test_windows_at_a_time() -> None:
    network = Sign()
    step = volume_step(network, replace(TINY, batch=4, in_channels=2, volume=(16, 8, 32)), nullcontext)
    step()
    assert [shape[:2] for shape in network.seen] == [(4, 2), (4, 2), (1, 2)], "3 x 1 x 3 windows"
    assert network.states == {(False, True)}


def test_noise_is_the_same_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    volumes: list[Tensor] = []
    monkeypatch.setattr(Windows, "__call__", lambda _, volume: volumes.append(volume))
    for network in (Sign(), Sign()):
        volume_step(network, replace(TINY, volume=(8, 8, 20)), nullcontext)()
    assert volumes[0].shape == (1, 8, 8, 20)
    assert torch.equal(*volumes)


def test_no_volume() -> None:
    with pytest.raises(ValueError, match="volume must be three sizes in voxels; got None"):
        volume_step(Sign(), TINY, nullcontext)


def test_worker_segments_a_volume() -> None:
    settings = replace(SETTINGS["quick"], warmup=1, volume=(32, 48, 32), keep_memory=False)
    subject = Subject(Entry("scd:size=tiny", settings), "forward")
    windows: list[tuple[int, ...]] = []
    threads, benchmark = torch.get_num_threads(), torch.backends.cudnn.benchmark
    try:
        assert subject.prepare().step_seconds > 0
        subject.network.register_forward_pre_hook(lambda _, inputs: windows.append(tuple(inputs[0].shape)))
        assert subject.turn(2) > 0
        assert windows == [(1, 1, 32, 32, 32)] * 4, "two windows, two volumes"
        del windows[:]
        assert subject.describe().macs > 0
        assert set(windows) == {(1, 1, 32, 32, 32)}, "one window at a time is what is counted"
    finally:
        torch.set_num_threads(threads)
        torch.backends.cudnn.benchmark = benchmark
