from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from scd_plugin import SCDUNETR, SCDPrimus
from scd_plugin.bench.bench_settings import NAMED, BenchSettings
from scd_plugin.bench.contestants import CONTESTANTS, parse_contestant, parse_contestants, parse_value, twins
from scd_plugin.measure.cost import multiply_accumulates, parameters
from scd_plugin.networks.builder import build_network
from scd_plugin.networks.family import SCDNetwork
from scd_plugin.networks.presets import PRESETS

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "benchmark.md"
QUICK, BTCV = (BenchSettings(name=name, **NAMED[name]) for name in ("quick", "btcv"))


def on_meta(text: str, settings: BenchSettings = QUICK) -> Any:
    with torch.device("meta"):
        return parse_contestant(text).build(settings)


def kept(network: SCDNetwork) -> list[float]:
    return [stage.keep_ratio for stage in network.pruning_stages()]


def test_names_are_their_own_keys() -> None:
    assert all(contestant.name == name for name, contestant in CONTESTANTS.items())
    assert list(CONTESTANTS)[:5] == ["scd", "early", "fast", "subvoxel", "dense"]
    assert list(CONTESTANTS)[-2:] == ["nnunet", "resenc-l"]


def test_page_names_everyone() -> None:
    text = PAGE.read_text(encoding="utf-8")
    rows = text[text.index("| Name | Network |") :].split("\n\n")[0].splitlines()[2:]
    assert sorted(name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])) == sorted(CONTESTANTS)


class TestReading:
    @pytest.mark.parametrize(
        ("text", "name", "preset", "changes"),
        [
            ("scd", "scd", "base", {}),
            ("scd:keep_ratio=0.1,decoder=light", "scd", "base", {"keep_ratio": 0.1, "decoder": "light"}),
            ("fast:size=small-fast", "fast", "small-fast", {}),
            ("dense:prune_after=2x4x6", "dense", "base", {"keep_ratio": 1, "prune_after": (2, 4, 6)}),
            ("scd-primus-m:num_layers=4", "scd-primus-m", "primus-m", {"num_layers": 4}),
            ("nnunet:spacing=3x1x1", "nnunet", None, {"spacing": (3, 1, 1)}),
        ],
    )
    def test_is_done_once(self, text: str, name: str, preset: str | None, changes: dict[str, Any]) -> None:
        read = parse_contestant(text)
        assert (read.label, read.name, read.preset, read.changes) == (text, name, preset, changes)
        assert read.about == CONTESTANTS[name].about

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
    def test_values(self, text: str, value: object) -> None:
        read = parse_value(text)
        assert read == value
        assert type(read) is type(value)

    def test_unknown_contestants_are_listed(self) -> None:
        with pytest.raises(
            ValueError,
            match=r"contestant must be one of scd, early, fast, subvoxel, dense, dense-light, .*; got 'unet'",
        ):
            parse_contestant("unet")

    @pytest.mark.parametrize("text", ["scd:keep_ratio", "scd:=1", "scd:keep_ratio=", "scd:keep ratio=1"])
    def test_arguments_need_a_name_and_a_value(self, text: str) -> None:
        with pytest.raises(ValueError, match="arguments of a contestant are written name:argument=value,argument="):
            parse_contestant(text)

    def test_what_makes_a_contestant_cannot_be_changed(self) -> None:
        with pytest.raises(ValueError, match=r"keep_ratio of dense is always 1; got 'dense:keep_ratio=0\.5'"):
            parse_contestant("dense:keep_ratio=0.5")

    @pytest.mark.parametrize(("texts", "got"), [([], "none"), (["scd", "scd"], "scd, scd")])
    def test_each_is_named_once(self, texts: list[str], got: str) -> None:
        with pytest.raises(ValueError, match=f"contestants must be at least one, each named once; got {got}"):
            parse_contestants(texts)


class TestKeepRatio:
    """The settings' own is for published networks that have neither a size nor a keep ratio among their arguments."""

    @pytest.mark.parametrize("preset", PRESETS)
    def test_size_is_the_whole_preset(self, preset: str) -> None:
        with torch.device("meta"):
            wanted = build_network(preset, BTCV.in_channels, BTCV.out_channels, BTCV.crop)
        found = on_meta(f"scd:size={preset}", BTCV)
        assert type(found) is type(wanted)
        assert {name: tensor.shape for name, tensor in found.state_dict().items()} == {
            name: tensor.shape for name, tensor in wanted.state_dict().items()
        }
        assert kept(found) == kept(wanted)
        assert found.arguments == wanted.arguments

    def test_of_base_fast_in_the_btcv_setting(self) -> None:
        # it kept 0.1 four times
        contestant = parse_contestant("scd:size=base-fast")
        assert contestant.keep_ratio(BTCV) == (0.4, 0.25, 0.25, 0.25)
        assert kept(on_meta("scd:size=base-fast", BTCV)) == [0.4, 0.25, 0.25, 0.25]
        assert kept(on_meta("fast", BTCV)) == [0.4, 0.25, 0.25, 0.25]

    @pytest.mark.parametrize(
        ("text", "ratios"),
        [
            ("scd", [0.1] * 3),
            ("scd:feature_size=8", [0.1] * 3),
            ("scd:keep_ratio=0.5", [0.5] * 3),
            ("scd:size=small", [0.25] * 3),
            ("scd:size=small,keep_ratio=0.5", [0.5] * 3),
            ("early", [0.4, 0.25, 0.25, 0.25]),
            ("fast:keep_ratio=0.5", [0.5] * 4),
            ("dense", []),
            ("subvoxel", [0.4, 0.25, 0.25, 0.25]),
            ("dense-light:size=small-fast", []),
            ("dense-subvoxel", []),
            ("scd-primus-s", [0.1]),
            ("scd-primus-s:keep_ratio=0.5", [0.5]),
            ("scd-primus-s:size=primus-m", [0.5]),
        ],
    )
    def test_in_the_btcv_setting(self, text: str, ratios: list[float]) -> None:
        assert kept(on_meta(text, BTCV)) == ratios
        assert parse_contestant(text).takes_keep_ratio == (0.1 in ratios)

    def test_of_other_libraries_is_none(self) -> None:
        assert parse_contestant("nnunet").keep_ratio(BTCV) is None


class TestTwins:
    def test_are_dense(self) -> None:
        one, *_, other = contestants = parse_contestants(["dense", "scd", "unetr", "dense:feature_size=8"])
        assert twins(contestants) == [one, other]

    def test_stock_primus_is_that_of_a_pruned_one(self) -> None:
        labels = ["primus-m", "primus-s", "scd-primus-m:keep_ratio=0.5"]
        assert [twin.label for twin in twins(parse_contestants(labels))] == ["primus-m"]
        assert twins(parse_contestants(["scd", "primus-s"])) == []


class TestBuilding:
    @pytest.mark.parametrize(
        ("label", "trainer"), [("primus-s", "Primus_S"), ("primus-m", "Primus_M"), ("primusv3-s", "PrimusV3S")]
    )
    def test_primus_is_that_of_nnunets_trainer(self, label: str, trainer: str) -> None:
        trainers = pytest.importorskip("nnunetv2.training.nnUNetTrainer.primus.primus_trainers")
        build = getattr(trainers, f"nnUNet_{trainer}_Trainer").build_network_architecture
        with torch.device("meta"):
            theirs = build(None, SimpleNamespace(patch_size=QUICK.crop), 1, 3, False)
        ours = on_meta(label)
        shapes = [{name: one.shape for name, one in network.state_dict().items()} for network in (ours, theirs)]
        # the last layer has as many classes as are asked for
        assert shapes[0].keys() == shapes[1].keys()
        assert sum(shapes[0][name] != shapes[1][name] for name in shapes[0]) <= 2
        layers = [
            re.findall(r"DropPath\(.*\)|Dropout\(.*\)|LayerNorm.*", repr(network.eva)) for network in (ours, theirs)
        ]
        assert layers[0] == layers[1]
        assert len(layers[0]) > 12

    def test_pruned_primus(self) -> None:
        network = on_meta("scd-primusv3-s:num_layers=4,prune_after=1x")
        assert isinstance(network, SCDPrimus)
        assert [network.arguments[name] for name in ("size", "version", "keep_ratio", "drop_path_rate")] == [
            *("S", 3, 0.25, 0.2)
        ]

    def test_dense_twin_keeps_everything_and_nothing_else_changes(self) -> None:
        twin = on_meta("dense:size=tiny,feature_size=4")
        assert isinstance(twin, SCDUNETR)
        assert twin.completion is None
        assert (twin.arguments["feature_size"], twin.arguments["drop_path_rate"]) == (4, 0.1)

    @pytest.mark.parametrize(
        ("contestant", "crop", "error", "message"),
        [
            ("scd:colour=red", (32, 32, 32), ValueError, r"SCDUNETR, .* preset base, takes no argument colour"),
            ("scd:size=huge", (32, 32, 32), ValueError, r"the preset \(size\) must be one of tiny, .*; got 'huge'"),
            ("unetr:colour=red", (32, 32, 32), TypeError, "unexpected keyword argument 'colour'"),
            ("scd:size=tiny", (32, 32, 36), ValueError, "does not divide img_size"),
            ("unetr", (40, 56, 40), ValueError, "unetr needs a crop of multiples of 16 voxels; got 40x56x40, 32x64x32"),
            ("swinunetr", (48, 32, 32), ValueError, "swinunetr needs a crop of multiples of 32 voxels; got 48x32x32"),
            ("primus-m", (30, 32, 32), ValueError, "primus-m needs a crop of multiples of 8 voxels; got 30x32x32, 32 "),
            ("nnunet", (100, 96, 96), ValueError, "pools it down to an odd size; it would take 112x96x96"),
        ],
    )
    def test_who_does_not_fit_says_so(
        self, contestant: str, crop: tuple[int, ...], error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            on_meta(contestant, replace(QUICK, crop=crop))

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
    def test_costs_in_the_btcv_setting(self, contestant: str, gmacs: float, million: float) -> None:
        network = on_meta(contestant, BTCV)
        image = torch.empty(1, 1, 96, 96, 96, device="meta")
        assert multiply_accumulates(network, image) / 1e9 == pytest.approx(gmacs, rel=0.01)
        assert parameters(network) / 1e6 == pytest.approx(million, rel=0.01)


@pytest.mark.parametrize(("plain", "fused"), [("scd-plain", "scd"), ("dense-plain", "dense")])
def test_plain_attention_is_the_same_network(plain: str, fused: str, monkeypatch: pytest.MonkeyPatch) -> None:
    image, networks = torch.randn(1, 1, 32, 32, 32), []
    for name in (plain, fused):
        torch.manual_seed(0)
        networks.append(parse_contestant(f"{name}:size=tiny").build(QUICK).eval())
    with torch.no_grad():
        torch.testing.assert_close(networks[0](image), networks[1](image), atol=1e-4, rtol=1e-4)

    def refuse(*_: Any, **__: Any) -> None:
        msg = "fused attention"
        raise RuntimeError(msg)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", refuse)
    assert networks[0](image).shape == (1, 3, 32, 32, 32)
    with pytest.raises(RuntimeError, match="fused attention"):
        networks[1](image)
