from __future__ import annotations

from monai.bundle import ConfigParser

from scd_plugin.monai.export.description import plain_config


def test_plain_config_resolves_values_alone() -> None:
    parser = ConfigParser(
        {
            "a": [1, "@b", {"_target_": "torch.nn.Identity", "_disabled_": True}],
            "b": {"_target_": "torch.nn.ReLU", "inplace": "$1 > 2", "dtype": "$np.uint8", "of": "@b"},
        }
    )
    relu = {"_target_": "torch.nn.ReLU", "inplace": False, "dtype": "uint8", "of": "@b"}
    assert plain_config(parser, "a") == [1, relu]
