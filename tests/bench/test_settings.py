from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Any

import pytest

from scd_plugin.bench.settings import SETTINGS, command_line, crop_text, named_settings, num_windows, parse_crop


def test_published_settings() -> None:
    btcv, brats = named_settings("btcv"), named_settings("brats")
    assert (btcv.in_channels, btcv.out_channels, btcv.crop, btcv.keep_ratio) == (1, 14, (96, 96, 96), 0.1)
    assert (brats.in_channels, brats.out_channels, brats.crop, brats.keep_ratio) == (4, 3, (128, 128, 128), 0.25)
    assert btcv.contestants[:4] == ("scd", "early", "fast", "dense")
    assert btcv.contestants[-2:] == ("nnunet", "resenc-l")


def test_unknown_settings_are_listed() -> None:
    with pytest.raises(ValueError, match="settings must be one of btcv, brats, quick; got 'bctv'"):
        named_settings("bctv")


@pytest.mark.parametrize(
    ("text", "crop"), [("96", (96, 96, 96)), ("64x96x128", (64, 96, 128))], ids=["a cube", "three sizes"]
)
def test_crops_are_read_and_written(text: str, crop: tuple[int, ...]) -> None:
    assert parse_crop(text) == crop
    assert crop_text(crop) == text


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


@pytest.mark.parametrize("text", ["", "96x96", "96 x 96", "-8", "big"])
def test_bad_crops_are_one_sentence(text: str) -> None:
    with pytest.raises(ValueError, match="crop must be one size such as 96, or three such as 96x128x128; got"):
        parse_crop(text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch": 0}, "batch must be more than 0; got 0"),
        ({"turn_seconds": -1}, "turn-seconds must be more than 0; got -1"),
        ({"keep_ratio": 1.5}, r"keep-ratio must be in \(0, 1\]"),
        ({"crop": (96, 96)}, "crop must be three sizes of at least 1 voxel"),
        ({"volume": (96, 96, 0)}, r"volume must be three sizes of at least 1 voxel; got \(96, 96, 0\)"),
        ({"dtype": "half"}, "dtype must be one of float32, bfloat16, float16; got 'half'"),
        ({"device": "mps"}, "device must be one of cpu, cuda; got 'mps'"),
        ({"modes": ("backward",)}, "mode must be one or both of forward, train; got backward"),
        ({"modes": ()}, "mode must be one or both of forward, train; got none"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_values_that_cannot_be(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SETTINGS["btcv"], **change)


def test_command_says_what_differs_and_what_the_machine_decides() -> None:
    assert command_line(SETTINGS["btcv"]) == "scd bench --settings btcv --device cpu --threads 1"


def test_command_says_everything_that_was_asked_for() -> None:
    settings = replace(
        SETTINGS["brats"],
        contestants=("scd:keep_ratio=0.5,feature_size=8", "dense"),
        crop=(64, 64, 32),
        batch=2,
        dtype="float16",
        device="cuda",
        compiled=True,
        threads=4,
        modes=("train",),
        repeats=7,
        turn_seconds=0.5,
        keep_memory=False,
    )
    assert shlex.split(command_line(settings, grow="batch", values=("1", "2"))) == [
        *("scd", "bench", "scd:keep_ratio=0.5,feature_size=8", "dense", "--settings", "brats", "--crop", "64x64x32"),
        *("--batch", "2", "--dtype", "float16", "--device", "cuda", "--compile", "--threads", "4", "--mode", "train"),
        *("--repeats", "7", "--turn-seconds", "0.5", "--return-memory", "--grow", "batch", "--values", "1,2"),
    ]
