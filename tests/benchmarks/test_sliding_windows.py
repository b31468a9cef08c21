from __future__ import annotations

from typing import Any

import pytest
import torch
from growth import VOLUME, GrowthSettings, volume_step
from sliding_windows import Windows, num_windows
from torch import Tensor, nn

from scd_plugin.bench.bench_settings import NAMED
from scd_plugin.bench.contestants import parse_contestant
from scd_plugin.bench.worker import Entry, Subject


def tiny(**changes: Any) -> GrowthSettings:
    return GrowthSettings(name="quick", **{**NAMED["quick"], "crop": (8, 8, 16), **changes})


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
    ("volume", "crop", "overlap", "windows"),
    [
        ((96, 96, 96), (96, 96, 96), 0.5, 1),
        ((144, 144, 144), (96, 96, 96), 0.5, 8),
        ((192, 192, 192), (96, 96, 96), 0.5, 27),
        ((192, 192, 192), (96, 96, 96), 0.0, 8),
        ((97, 96, 40), (96, 96, 96), 0.25, 2),
        ((6, 4, 4), (4, 4, 4), 0.9, 3),
    ],
    ids=["one", "two each way", "three each way", "no overlap", "a voxel more, and less", "a voxel on"],
)
def test_windows_of_a_volume(volume: tuple[int, ...], crop: tuple[int, ...], overlap: float, windows: int) -> None:
    assert num_windows(volume, crop, overlap) == windows


@pytest.mark.parametrize(
    ("volume", "overlap"),
    [((8, 8, 16), 0.5), ((12, 9, 17), 0.5), ((20, 8, 40), 0.25), ((5, 16, 16), 0.0), ((9, 8, 16), 0.95)],
    ids=["a window", "a little more", "quarter overlap", "smaller on an axis", "a voxel on"],
)
def test_windows_cover_a_volume(volume: tuple[int, ...], overlap: float) -> None:
    network = Sign()
    settings = tiny(overlap=overlap)
    noise = torch.randn(1, *volume, generator=torch.Generator().manual_seed(3))
    label = Windows(network, settings)(noise)
    assert torch.equal(label, (noise > 0).float())
    assert set(network.seen) == {(1, 1, 8, 8, 16)}
    assert len(network.seen) == num_windows(volume, settings.crop, overlap)


def test_overlap_is_a_share() -> None:
    with pytest.raises(ValueError, match=r"overlap must be in \[0, 1\), a share of the window; got 1\.0"):
        tiny(overlap=1.0)
    assert tiny(overlap=0.0).overlap == 0


def test_windows_at_a_time() -> None:
    network = Sign()
    volume_step(network, tiny(batch=4, in_channels=2, volume=(16, 8, 32)))()
    assert [shape[:2] for shape in network.seen] == [(4, 2), (4, 2), (1, 2)], "3 x 1 x 3 windows"
    assert network.states == {(False, True)}


def test_noise_is_the_same_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    volumes: list[Tensor] = []
    monkeypatch.setattr(Windows, "__call__", lambda _, volume: volumes.append(volume))
    for network in (Sign(), Sign()):
        volume_step(network, tiny(volume=(8, 8, 20)))()
    assert volumes[0].shape == (1, 8, 8, 20)
    assert torch.equal(*volumes)


def test_process_segments_a_volume() -> None:
    settings = tiny(crop=(32, 32, 32), volume=(32, 48, 32), keep_memory=False)
    subject = Subject(Entry(parse_contestant("scd:size=tiny"), settings), VOLUME)
    windows: list[tuple[int, ...]] = []
    threads, benchmark = torch.get_num_threads(), torch.backends.cudnn.benchmark
    try:
        assert subject.prepare().steps >= 1
        subject.network.register_forward_pre_hook(lambda _, inputs: windows.append(tuple(inputs[0].shape)))
        assert subject.turn(2)[0] > 0
        assert windows == [(1, 1, 32, 32, 32)] * 4, "two windows, two volumes"
        del windows[:]
        assert subject.describe()[1] > 0
        assert set(windows) == {(1, 1, 32, 32, 32)}, "one window at a time is what is counted"
    finally:
        torch.set_num_threads(threads)
        torch.backends.cudnn.benchmark = benchmark
