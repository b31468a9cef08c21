"""A bundle's configs tell what its weights are."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from scd_plugin import SCDUNETR, ComposedNetwork, SCDNetwork, build_network
from scd_plugin.monai import from_config, recorded
from scd_plugin.monai.training.record import network_config, record

BUNDLE = Path(__file__).parents[3] / "bundles" / "scd_unetr_segmentation"
DESCRIPTION = {
    "channel_names": ["CT"],
    "labels": {"liver": [1], "tumour": [2]},
    "regions_order": [],
    "label_values": [0, 1, 2],
    "in_channels": 1,
    "out_channels": 3,
    "spacing": [1.0, 1.0, 2.0],
    "img_size": [16, 16, 16],
    "patch_size": [4, 4, 4],
    "ct_windows": [[-100.0, 200.0]],
}


class Mine(SCDUNETR):
    """A network of a user's own."""


def shapes(network: nn.Module) -> dict[str, Any]:
    return {name: value.shape for name, value in network.state_dict().items()}


@pytest.mark.parametrize("kind", ["SCDUNETR", "SCDPrimus"])
def test_config_builds_the_same_network(
    kind: str, small: Callable[..., SCDNetwork], small_primus: Callable[..., SCDNetwork]
) -> None:
    network = {"SCDUNETR": small, "SCDPrimus": small_primus}[kind](keep_ratio=(0.6, 0.5, 0.4))
    config = json.loads(json.dumps(network_config(network)))
    assert config["_target_"] == f"scd_plugin.{kind}"
    # defaults too, for they may change
    assert (config["tau"], config["completion"]) == (1.0, "assembly")
    again = from_config(config)
    assert type(again) is type(network)
    assert shapes(again) == shapes(network)
    assert [stage.keep_ratio for stage in again.pruning_stages()] == [0.6, 0.5, 0.4]
    assert network_config(again) == config


def test_config_names_preset_and_changes() -> None:
    network = build_network("tiny-fast", 1, 3, 16, 4, keep_ratio=0.5)
    assert network_config(network)["_desc_"] == "preset tiny-fast, keep_ratio 0.5 instead of [0.4, 0.25, 0.25, 0.25]"
    assert network_config(build_network("tiny", 1, 3, 16, 4))["_desc_"] == "preset tiny"


def test_config_of_a_users_own_class() -> None:
    config = network_config(Mine(1, 3, 32, hidden_size=48, num_heads=4, num_layers=2, prune_after=(1,)))
    assert config["_target_"] == f"{__name__}.Mine"
    assert (config["num_layers"], config["prune_after"]) == (2, [1])


def test_networks_that_no_config_can_build(small: Callable[..., ComposedNetwork]) -> None:
    parts = small()
    composed = ComposedNetwork(parts.encoder, parts.completion, parts.decoder, out_channels=3)
    with pytest.raises(ValueError, match=r"network_def must be built of numbers, names and lists .*: .*SparseViT"):
        network_config(composed)
    with pytest.raises(ValueError, match=r"network_def must be a network of SCD, .* got Identity"):
        network_config(nn.Identity())  # type: ignore[arg-type]


def test_record(tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(BUNDLE, tmp_path / "bundle"))
    network = build_network("tiny", 1, 3, 16, 4, keep_ratio=0.3)
    record(bundle, network, DESCRIPTION)
    assert shapes(from_config(recorded(str(bundle), "network_def"))) == shapes(network)
    assert recorded(str(bundle), "network_def")["keep_ratio"] == 0.3
    assert recorded(str(bundle), "spacing") == [1.0, 1.0, 2.0]
    assert recorded(str(bundle), "intensity")["a_max"] == 200.0
    assert recorded(str(bundle), "img_size") == [16, 16, 16]
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    assert metadata["dataset"] == DESCRIPTION
    formats = metadata["network_data_format"]
    assert formats["inputs"]["image"]["spatial_shape"] == [16, 16, 16]
    assert formats["outputs"]["pred"]["channel_def"] == {"0": "background", "1": "liver", "2": "tumour"}


@pytest.mark.parametrize("name", ["scd_unetr_segmentation", "scd_unetr_btcv_segmentation"])
def test_spacing_of_the_training_is_recorded(tmp_path: Path, name: str) -> None:
    """That of the data set or of the published setting may have been changed by `--spacing`."""
    bundle = Path(shutil.copytree(BUNDLE.with_name(name), tmp_path / "bundle"))
    description = DESCRIPTION if name == BUNDLE.name else None
    record(bundle, build_network("tiny", 1, 3, 16, 4), description, spacing=(2, 2, 3))
    assert recorded(str(bundle), "spacing") == [2.0, 2.0, 3.0]
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    assert metadata.get("dataset") == (description and {**description, "spacing": [2.0, 2.0, 3.0]})
    record(bundle, build_network("tiny", 1, 3, 16, 4))
    assert recorded(str(bundle), "spacing") == [2.0, 2.0, 3.0]


def test_bundle_root_that_is_none(tmp_path: Path) -> None:
    sentence = rf"^bundle_root must be the folder of the bundle; {tmp_path} has no configs/inference.json: give it "
    with pytest.raises(ValueError, match=sentence):
        recorded(str(tmp_path), "img_size")
    with pytest.raises(ValueError, match=sentence):
        record(tmp_path, build_network("tiny", 1, 3, 16, 4))
