from __future__ import annotations

import shlex
from typing import Any

import pytest

from scd_plugin.bench.bench_settings import ALLOWED, NAMED, BenchSettings, command_line, crop_text, parse_crop
from scd_plugin.bench.timed_steps import MODES


def named(name: str, **changes: Any) -> BenchSettings:
    return BenchSettings(name=name, **{**NAMED[name], **changes})


def test_published_settings() -> None:
    btcv, brats = named("btcv"), named("brats")
    assert (btcv.in_channels, btcv.out_channels, btcv.crop, btcv.keep_ratio) == (1, 14, (96, 96, 96), 0.1)
    assert (brats.in_channels, brats.out_channels, brats.crop, brats.keep_ratio) == (4, 3, (128, 128, 128), 0.25)


def test_modes_are_those_that_can_be_timed() -> None:
    assert tuple(MODES) == ALLOWED["modes"] == named("btcv").modes


@pytest.mark.parametrize(
    ("text", "crop"), [("96", (96, 96, 96)), ("64x96x128", (64, 96, 128))], ids=["a cube", "three sizes"]
)
def test_crops_are_read_and_written(text: str, crop: tuple[int, ...]) -> None:
    assert parse_crop(text) == crop
    assert crop_text(crop) == text


@pytest.mark.parametrize("text", ["", "96x96", "96 x 96", "-8", "big", "96x0x96"])
def test_bad_crops_are_one_sentence(text: str) -> None:
    with pytest.raises(ValueError, match="sizes in voxels must be one such as 96, or three such as 96x128x128; got"):
        parse_crop(text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch": 0}, "batch must be more than 0; got 0"),
        ({"turn_seconds": -1}, "turn-seconds must be more than 0; got -1"),
        ({"keep_ratio": 0.0}, r"keep-ratio must be more than 0; got 0\.0"),
        ({"keep_ratio": 1.5}, r"keep-ratio must be in \(0, 1\], the share of tokens kept at each stage; got 1\.5"),
        ({"dtype": "half"}, "dtype must be of float32, bfloat16, float16; got half"),
        ({"device": "mps"}, "device must be of cpu, cuda; got mps"),
        ({"modes": ("backward",)}, r"modes must be of forward, train; got \('backward',\)"),
        ({"modes": ()}, "modes must be of forward, train; got none"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_values_that_cannot_be(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        named("btcv", **change)


def test_command_says_what_differs_and_what_the_machine_decides() -> None:
    assert command_line(["scd", "bench", "scd"], named("btcv")) == (
        "scd bench scd --settings btcv --device cpu --threads 1"
    )


def test_command_says_everything_that_was_asked_for() -> None:
    settings = named(
        "brats",
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
    said = command_line(["scd", "bench", "scd:keep_ratio=0.5,feature_size=8"], settings)
    assert shlex.split(said) == [
        *("scd", "bench", "scd:keep_ratio=0.5,feature_size=8", "--settings", "brats", "--crop", "64x64x32"),
        *("--batch", "2", "--dtype", "float16", "--device", "cuda", "--compile", "--threads", "4", "--return-memory"),
        *("--mode", "train", "--repeats", "7", "--turn-seconds", "0.5"),
    ]
