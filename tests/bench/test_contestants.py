from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from scd_plugin import SCDUNETR, SCDPrimus
from scd_plugin.bench.contestants import CONTESTANTS, build, parse_contestant, parse_value, prunes, twins
from scd_plugin.bench.settings import EVERYONE, SETTINGS
from scd_plugin.measure.cost import multiply_accumulates, parameters

QUICK, BTCV = SETTINGS["quick"], SETTINGS["btcv"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("scd", ("scd", {})),
        ("scd:keep_ratio=0.1,decoder=light", ("scd", {"keep_ratio": 0.1, "decoder": "light"})),
        ("dense:prune_after=2x4x6", ("dense", {"prune_after": (2, 4, 6)})),
    ],
)
def test_contestants_are_read(text: str, expected: tuple[str, dict[str, Any]]) -> None:
    assert parse_contestant(text) == expected


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8", 8),
        ("-1", -1),
        ("0.5", 0.5),
        ("1e-3", 0.001),
        ("0.5x0.25x1", (0.5, 0.25, 1)),
        ("3x", (3,)),
        ("x", "x"),
        ("true", True),
        ("None", None),
        ("mask_token", "mask_token"),
        ("max", "max"),
    ],
)
def test_values_are_read(text: str, value: object) -> None:
    read = parse_value(text)
    assert read == value
    assert type(read) is type(value)


def test_unknown_contestants_are_listed() -> None:
    with pytest.raises(
        ValueError, match=r"contestant must be one of scd, dense, early, fast, dense-light, unetr, .*; got 'unet'"
    ):
        parse_contestant("unet")


@pytest.mark.parametrize("text", ["scd:keep_ratio", "scd:=1", "scd:keep_ratio=", "scd:keep ratio=1"])
def test_arguments_need_a_name_and_a_value(text: str) -> None:
    with pytest.raises(ValueError, match="arguments of a contestant are written name:argument=value,argument=value"):
        parse_contestant(text)


def test_everyone_is_registered() -> None:
    assert set(EVERYONE) == set(CONTESTANTS)


def test_settings_prune_who_does_not_say_how() -> None:
    assert prunes("scd")
    assert prunes("scd:feature_size=8")
    assert not prunes("scd:keep_ratio=0.5")
    assert not prunes("dense")


def test_twins() -> None:
    assert twins(("scd", "dense", "unetr", "dense:feature_size=8")) == ["dense", "dense:feature_size=8"]


def test_stock_primus_is_the_twin_of_a_pruned_one() -> None:
    assert twins(("scd", "dense", "primus-s", "primus-m")) == ["dense"]
    assert twins(("primus-m", "primus-s", "scd-primus-m:keep_ratio=0.5")) == ["primus-m"]


def test_pruned_primus() -> None:
    network = build("scd-primusv3-s:num_layers=4,prune_after=1x", QUICK)
    assert isinstance(network, SCDPrimus)
    assert [network.arguments[name] for name in ("size", "version", "keep_ratio", "drop_path_rate")] == [
        *("S", 3, 0.25, 0.2)
    ]
    assert prunes("scd-primus-m")


def test_keep_ratio_of_settings_and_of_a_contestant() -> None:
    network = build("scd:size=tiny", QUICK)
    assert isinstance(network, SCDUNETR)
    assert network.arguments["keep_ratio"] == 0.25
    assert network.arguments["drop_path_rate"] == 0.1
    assert build("scd:size=tiny,keep_ratio=0.5", QUICK).arguments["keep_ratio"] == 0.5  # type: ignore[index]


def test_dense_twin_keeps_everything_and_nothing_else_changes() -> None:
    twin = build("dense:size=tiny,feature_size=4", QUICK)
    assert isinstance(twin, SCDUNETR)
    assert twin.completion is None
    assert twin.arguments["feature_size"] == 4


@pytest.mark.parametrize(
    ("contestant", "crop", "message"),
    [
        ("scd:colour=red", (32, 32, 32), "scd:colour=red does not fit its network: .*'colour'"),
        ("dense:keep_ratio=0.5", (32, 32, 32), "dense:keep_ratio=0.5 does not fit its network: .*keep_ratio"),
        ("scd:size=tiny", (32, 32, 36), "does not divide img_size"),
        ("unetr", (40, 56, 40), "unetr needs a crop of multiples of 16 voxels; got 40x56x40, the nearest is 32x64x32"),
        ("swinunetr", (48, 32, 32), "swinunetr needs a crop of multiples of 32 voxels"),
        ("primus-m", (30, 32, 32), "Primus_M needs a crop of multiples of 8 voxels; got 30x32x32.*32x32x32"),
        ("nnunet", (100, 96, 96), "pools it down to an odd size; nnU-Net would take 112x96x96"),
    ],
)
def test_who_does_not_fit_says_so(contestant: str, crop: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(contestant, replace(QUICK, crop=crop))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("contestant", "gmacs", "million"),
    [
        ("scd", 131.80, 106.25),
        ("dense", 258.2, 93.3),
        ("unetr", 73.22, 92.80),
        ("primus-s", 70.55, 24.17),
        ("primus-m", 337.98, 147.66),
        ("primusv3-s", 222.55, 71.38),
        ("scd-primus-m:keep_ratio=0.25", 136.6, 160.1),
    ],
)
def test_costs_in_the_btcv_setting(contestant: str, gmacs: float, million: float) -> None:
    network = on_meta(contestant)
    image = torch.empty(1, 1, 96, 96, 96, device="meta")
    assert multiply_accumulates(network, image) / 1e9 == pytest.approx(gmacs, rel=0.01)
    assert parameters(network) / 1e6 == pytest.approx(million, rel=0.01)


def on_meta(contestant: str) -> nn.Module:
    with torch.device("meta"):
        return build(contestant, BTCV)
