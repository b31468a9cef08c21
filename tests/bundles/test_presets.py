"""A bundle trains the network of the preset that `--size` names, whole, and its configs then build the same again."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser

from scd_plugin import SCDUNETR, SCDNetwork, build_network
from scd_plugin.monai.errors import explained
from scd_plugin.monai.training.record import network_config
from scd_plugin.networks.presets import PRESETS

GENERAL, BTCV, BRATS = "scd_unetr_segmentation", "scd_unetr_btcv_segmentation", "scd_unetr_brats_segmentation"
# channels, classes, window
GEOMETRY = {GENERAL: (1, 2, [96] * 3), BTCV: (1, 14, [96] * 3), BRATS: (4, 3, [128] * 3)}
all_bundles = pytest.mark.parametrize("bundle", GEOMETRY)


def own_changes(bundle: str, preset: str) -> dict[str, Any]:
    """In what a bundle differs from a preset: by what was published of the base size, and of this data."""
    if bundle == BTCV and preset == "base":
        return {"keep_ratio": 0.1}
    return {"drop_path_rate": 0.0} if bundle == BRATS else {}


def parts(network: SCDNetwork) -> dict[str, Any]:
    """All that tells two networks apart, but for the values of their weights."""
    return {
        "class": type(network),
        "state": {name: tuple(value.shape) for name, value in network.state_dict().items()},
        "stages": [(stage.after_block, stage.keep_ratio) for stage in network.pruning_stages()],
        "modules": {name: type(module) for name, module in network.named_modules()},
    }


@all_bundles
@pytest.mark.parametrize("preset", PRESETS)
def test_bundle_trains_the_preset(bundle: str, preset: str, network_of_training: Callable[..., SCDNetwork]) -> None:
    network = network_of_training(bundle, size=preset)
    with torch.device("meta"):
        wanted = build_network(preset, *GEOMETRY[bundle], **own_changes(bundle, preset))
        # what stands in inference.json after a training
        config = json.loads(json.dumps(network_config(network)))
        assert config.pop("_desc_").startswith(f"preset {preset}")
        again = ConfigParser({"network_def": config}).get_parsed_content("network_def")
    assert network.preset == preset
    assert parts(network) == parts(wanted)
    assert parts(again) == parts(network)
    assert network_config(again) == config


@all_bundles
def test_fast_is_fast(bundle: str, network_of_training: Callable[..., SCDNetwork]) -> None:
    """The lighter decoder, the cheaper completion, its width and the four ratios."""
    network = network_of_training(bundle, size="base-fast")
    assert type(network.decoder).__name__ == "LightDecoder"
    assert network.completion.refine.attend_kept
    assert network.completion.layer_embed.shape == (5, 1, 1, 384)
    assert [(stage.after_block, stage.keep_ratio) for stage in network.pruning_stages()] == [
        (1, 0.4), (3, 0.25), (6, 0.25), (9, 0.25)
    ]  # fmt: skip


@all_bundles
@pytest.mark.parametrize(("preset", "theirs"), [("base-fast", "[0.4, 0.25, 0.25, 0.25]"), ("primus-s", "0.5")])
def test_ratio_of_the_command_line_wins_and_is_said(
    bundle: str,
    preset: str,
    theirs: str,
    network_of_training: Callable[..., SCDNetwork],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "scd_plugin.networks.builder"):
        network = network_of_training(bundle, size=preset, keep_ratio=0.3)
    assert {stage.keep_ratio for stage in network.pruning_stages()} == {0.3}
    assert f"network {preset} with changes: keep_ratio 0.3 instead of {theirs}" in caplog.text


@pytest.mark.parametrize(
    ("bundle", "published"),
    [(BTCV, {"keep_ratio": 0.1, "drop_path_rate": 0.1}), (BRATS, {"keep_ratio": 0.25, "drop_path_rate": 0.0})],
)
def test_published_norm(
    bundle: str, published: dict[str, float], network_of_training: Callable[..., SCDNetwork]
) -> None:
    network = network_of_training(bundle, **{"network_def#norm_name": "instance"})
    with torch.device("meta"):
        assert parts(network) == parts(SCDUNETR(*GEOMETRY[bundle], **published))
    norm = "decoder.ups.0.block.conv_block.norm1.weight"
    assert norm not in network.state_dict()
    assert norm in network_of_training(bundle).state_dict()


@all_bundles
def test_unknown_size(bundle: str, network_of_training: Callable[..., SCDNetwork]) -> None:
    with pytest.raises(RuntimeError) as caught:
        network_of_training(bundle, size="huge")
    assert (explained(caught.value) or "").endswith("primusv3-l; got 'huge'")
