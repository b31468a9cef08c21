from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from scd_plugin.bench.entries import VARIABLES, entries_of, grown_entries, place, steps_per_turn, turns
from scd_plugin.bench.settings import SETTINGS

SETTING = replace(SETTINGS["btcv"], contestants=("scd", "dense"))


def test_turns_are_interleaved() -> None:
    assert turns(3, 2) == [0, 1, 2, 0, 1, 2]
    assert turns(0, 5) == []


@pytest.mark.parametrize(("step", "steps"), [(4.0, 1), (1.0, 1), (0.25, 4), (0.003, 333)])
def test_a_turn_is_filled_with_whole_steps(step: float, steps: int) -> None:
    assert steps_per_turn(step, 1.0) == steps


def test_entries_of_settings() -> None:
    entries = entries_of(SETTING)
    assert [entry.contestant for entry in entries] == ["scd", "dense"]
    assert entries[0].label == "scd at 96, batch 1"


def test_crop_grows() -> None:
    entries = grown_entries(SETTING, "crop", ("64", "64x64x96"))
    assert [(entry.contestant, entry.settings.crop) for entry in entries] == [
        ("scd", (64, 64, 64)),
        ("dense", (64, 64, 64)),
        ("scd", (64, 64, 96)),
        ("dense", (64, 64, 96)),
    ]


def test_batch_and_keep_ratio_grow() -> None:
    assert [entry.settings.batch for entry in grown_entries(SETTING, "batch", ("1", "4"))] == [1, 1, 4, 4]
    alone = replace(SETTING, contestants=("scd",))
    assert [entry.settings.keep_ratio for entry in grown_entries(alone, "keep", ("0.1", "0.5"))] == [0.1, 0.5]


def test_volume_grows_and_the_crop_stays() -> None:
    entries = grown_entries(replace(SETTING, contestants=("scd",), modes=("forward",)), "volume", ("96", "96x128x192"))
    assert [entry.settings.volume for entry in entries] == [(96, 96, 96), (96, 128, 192)]
    assert {entry.settings.crop for entry in entries} == {(96, 96, 96)}
    assert entries[1].label == "scd at 96 in a volume of 96x128x192, batch 1"


def test_place() -> None:
    assert place([96, 96, 64], None) == "96x96x64"
    assert place((32, 32, 32), [48, 48, 48]) == "32 in a volume of 48"


@pytest.mark.parametrize("variable", VARIABLES)
def test_default_values_can_be(variable: str) -> None:
    alone = replace(SETTING, contestants=("scd",), modes=("forward",))
    assert len(grown_entries(alone, variable, VARIABLES[variable])) == 4


@pytest.mark.parametrize(
    ("change", "variable", "values", "message"),
    [
        ({}, "depth", ("1", "2"), "grow must be one of crop, keep, batch, volume; got 'depth'"),
        ({}, "batch", ("1",), "values must be at least two, all different, for a fit; got 1"),
        ({}, "batch", ("1", "1"), "values must be at least two, all different"),
        ({}, "batch", ("1", "01"), "values must be at least two, all different, for a fit; got 1, 01"),
        ({}, "crop", ("64", "64x64x64"), "values must be at least two, all different, for a fit; got 64, 64x64x64"),
        (
            {},
            "volume",
            ("96", "144"),
            "mode must be forward alone where a volume grows, which is not trained on; got forward, train",
        ),
        ({"modes": ("forward",)}, "volume", ("96", "96x96"), "volume must be one size such as 96, or three such as"),
        ({"modes": ("forward",)}, "volume", ("96", "0"), r"volume must be three sizes of at least 1 voxel; got \(0, 0"),
        ({}, "batch", ("1", "two"), "values of batch must be numbers; got 'two'"),
        ({}, "batch", ("0", "1"), "batch must be more than 0; got 0"),
        ({}, "crop", ("64", "96x96"), "crop must be one size"),
        (
            {},
            "keep",
            ("0.1", "0.5"),
            r"dense cannot grow in its keep ratio; name contestants that prune \(scd, scd-primus-s, ",
        ),
        ({"contestants": ("scd:keep_ratio=1",)}, "keep", ("0.1", "0.5"), "scd:keep_ratio=1 cannot grow"),
        ({"contestants": ()}, "batch", ("1", "2"), "contestants must be at least one, each named once; got none"),
        ({"contestants": ("scd", "scd")}, "batch", ("1", "2"), "each named once; got scd, scd"),
        ({"contestants": ("sdc",)}, "batch", ("1", "2"), "contestant must be one of"),
    ],
)
def test_what_cannot_grow(change: dict[str, Any], variable: str, values: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        grown_entries(replace(SETTING, **change), variable, values)
