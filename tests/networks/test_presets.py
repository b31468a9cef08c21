import logging
from typing import Any

import numpy as np
import pytest
import torch

from scd_plugin import SCDUNETR, SCDPrimus, build_network
from scd_plugin.networks.builder import NETWORKS, complete_arguments, network_arguments
from scd_plugin.networks.presets import PRESETS, get_preset

UNETR = [name for name, preset in PRESETS.items() if preset.network == "SCDUNETR"]
PRIMUS = [name for name, preset in PRESETS.items() if preset.network == "SCDPrimus"]


def build(preset: str, img_size: int = 96, **changes: Any) -> Any:
    with torch.device("meta"):
        return build_network(preset, 1, 14, img_size, **changes)


def test_numpys_numbers_build_too() -> None:
    network = build("tiny", np.int64(32), keep_ratio=np.array([0.5, 0.25, 0.5]), prune_after=np.array([1, 2, 3]))
    assert complete_arguments("SCDUNETR", network.arguments)["keep_ratio"] == [0.5, 0.25, 0.5]
    arguments = {**network.arguments, "prune_after": np.array([1, 2])}
    assert complete_arguments("SCDUNETR", arguments)["prune_after"] == [1, 2]
    assert build("tiny", np.array([32, 48])).image_shape == [1, 32, 48]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_register_tokens": None}, "num_register_tokens must be an int of at least 0; got None"),
        ({"img_size": 8}, r"img_size must hold at least 2 tokens; got \(8, 8, 8\) with patch_size \(8, 8, 8\)"),
    ],
)
def test_primus_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build("primus-s", **changes)


class TestPresets:
    def test_names(self) -> None:
        assert UNETR[:5] == ["tiny", "small", "base", "large", "tiny-early"]
        assert (len(UNETR), len(PRIMUS)) == (16, 12)
        assert {"primus-s", "primusv2-b", "primusv3-l"} <= set(PRIMUS)

    @pytest.mark.parametrize(("preset", "millions"), [("tiny", 2.1), ("small", 30), ("base", 107), ("large", 360)])
    def test_sizes_grow(self, preset: str, millions: float) -> None:
        parameters = sum(parameter.numel() for parameter in build(preset).parameters())
        assert parameters / 1e6 == pytest.approx(millions, rel=0.15)

    @pytest.mark.parametrize(
        ("preset", "prune_after", "width"),
        [
            ("tiny-fast", (1, 2, 4, 6), 48),
            ("small-fast", (1, 3, 6, 9), 192),
            ("base-fast", (1, 3, 6, 9), 384),
            ("large-fast", (2, 6, 12, 18), 512),
        ],
    )
    def test_fast(self, preset: str, prune_after: tuple[int, ...], width: int) -> None:
        arguments = get_preset(preset).arguments
        assert (arguments["prune_after"], arguments["completion_hidden_size"]) == (prune_after, width)
        assert arguments["keep_ratio"] == (0.4, 0.25, 0.25, 0.25)
        assert {**get_preset(preset.replace("fast", "early")).arguments, "decoder": "light"} == arguments
        published = get_preset(preset.removesuffix("-fast")).arguments
        assert {name for name, value in arguments.items() if published[name] != value} == {
            "prune_after",
            "keep_ratio",
            "completion",
            "completion_hidden_size",
            "decoder",
        }

    @pytest.mark.parametrize("size", ["tiny", "small", "base", "large"])
    def test_subvoxel_differs_from_fast_in_the_decoder_alone(self, size: str) -> None:
        arguments = get_preset(f"{size}-subvoxel").arguments
        assert arguments["decoder"] == "subvoxel"
        assert {**arguments, "decoder": "light"} == get_preset(f"{size}-fast").arguments
        assert type(build(f"{size}-subvoxel").decoder).__name__ == "SubvoxelDecoder"

    def test_a_copy_is_given(self) -> None:
        get_preset("base").arguments["hidden_size"] = 1  # type: ignore[index]
        assert get_preset("base").arguments["hidden_size"] == 768

    def test_unknown(self) -> None:
        with pytest.raises(ValueError, match=r"preset \(size\) must be one of tiny, small, .*, primusv3-l; got 'huge'"):
            get_preset("huge")


class TestBuilder:
    def test_a_preset_is_the_whole_network(self) -> None:
        net = build_network("tiny-fast", 1, 2, 48)
        assert isinstance(net, SCDUNETR)
        assert type(net.decoder).__name__ == "LightDecoder"
        # 216 tokens: 86 stay after the first block, then 21, 5 and 1
        assert net.exit_stages(torch.randn(1, 1, 48, 48, 48)).flatten().bincount().tolist() == [130, 65, 16, 4, 1]
        assert net.completion.refine.attend_kept is not None
        assert net.preset == "tiny-fast"

    @pytest.mark.parametrize("preset", PRESETS)
    def test_arguments_build_it_again(self, preset: str) -> None:
        net = build(preset, 64)
        with torch.device("meta"):
            again = NETWORKS[type(net).__name__](**complete_arguments(type(net).__name__, net.arguments))
        shapes = [{name: value.shape for name, value in one.state_dict().items()} for one in (net, again)]
        assert shapes[0] == shapes[1]
        ratios = [[stage.keep_ratio for stage in one.pruning_stages()] for one in (net, again)]
        assert ratios[0] == ratios[1] != []

    def test_an_explicit_change_wins_and_is_said(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO, "scd_plugin.networks.builder"):
            net = build("tiny-fast", keep_ratio=0.5, feature_size=12)
        assert [stage.keep_ratio for stage in net.pruning_stages()] == [0.5] * 4
        assert caplog.messages == [
            "network tiny-fast with changes: feature_size 12 instead of 8, keep_ratio 0.5 instead of "
            "[0.4, 0.25, 0.25, 0.25]"
        ]

    def test_nothing_is_said_where_nothing_is_changed(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO, "scd_plugin.networks.builder"):
            build("tiny", keep_ratio=None)
        assert caplog.messages == []

    def test_primus(self) -> None:
        net = build("primusv3-s", 64, keep_ratio=0.5)
        assert isinstance(net, SCDPrimus)
        assert net.arguments["version"] == 3
        assert [stage.keep_ratio for stage in net.pruning_stages()] == [0.5]

    @pytest.mark.parametrize(("preset", "network"), [("tiny", "SCDUNETR"), ("primus-s", "SCDPrimus")])
    def test_unknown_argument(self, preset: str, network: str) -> None:
        with pytest.raises(ValueError, match=f"{network}, the network of preset {preset}, takes no argument depth"):
            build(preset, depth=3)

    @pytest.mark.parametrize(("preset", "asks"), [("tiny", False), ("primus-s", True)])
    def test_regions_are_for_networks_that_ask(self, preset: str, asks: bool) -> None:
        with torch.device("meta"):
            network = build_network(preset, 1, 2, 32, 8, regions=True)
        assert network.arguments.get("regions", False) is asks

    def test_strides_are_not_for_primus(self) -> None:
        kind, arguments = network_arguments("primus-s", (64, 64), (8, 8), strides=[(2, 2)] * 3, pool_stride=(2, 2))
        assert kind == "SCDPrimus"
        assert arguments["spatial_dims"] == 2
        assert not {"strides", "pool_stride"} & set(arguments)

    def test_plans_from_before_memory_have_none(self) -> None:
        planned = {"in_channels": 1, "out_channels": 2, **network_arguments("tiny", 32)[1]}
        assert "memory" not in planned
        assert complete_arguments("SCDUNETR", planned)["memory"] == "none"

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"in_channels": 1}, "out_channels"),
            ({"in_channels": 1, "out_channels": 2, "img_size": 8, "depth": 3}, "depth"),
        ],
    )
    def test_foreign_arguments(self, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=f"the arguments do not fit SCDUNETR: .*{message}"):
            complete_arguments("SCDUNETR", arguments)
