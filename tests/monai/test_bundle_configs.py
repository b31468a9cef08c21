from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser

from scd_plugin import SCDUNETR
from scd_plugin.monai.bundle_configs import check_readable, set_own_keep_ratio


@pytest.mark.parametrize(
    ("config", "ratios"),
    [
        ({}, [0.5, 0.5, 0.5]),
        ({"keep_ratio": None}, [0.5, 0.5, 0.5]),
        ({"keep_ratio": "$1 / 4"}, [0.25, 0.25, 0.25]),
        ({"share": 0.3, "keep_ratio": ["@share", 0.5, 0.4]}, [0.3, 0.5, 0.4]),
    ],
)
def test_own_keep_ratio(small: Callable[..., SCDUNETR], config: dict[str, Any], ratios: list[float]) -> None:
    network = small()
    assert set_own_keep_ratio(ConfigParser(config), network) is (ratios[0] != 0.5)
    assert [stage.keep_ratio for stage in network.pruning_stages()] == ratios


def test_stages_that_were_left_out(small: Callable[..., SCDUNETR]) -> None:
    network = small(keep_ratio=[0.5, 1.0, 0.5])
    assert set_own_keep_ratio(ConfigParser({"keep_ratio": [0.25, 0.75]}), network)
    assert network.arguments["keep_ratio"] == [0.25, 1.0, 0.75]


@pytest.mark.parametrize(
    ("arguments", "ratio", "message"),
    [
        ({}, 1, "keep_ratio is 1 in the bundle's config, which can't go with it: at 1 a stage would be left out"),
        ({}, [0.5, 1.0, 0.5], r"keep_ratio is \[0.5, 1.0, 0.5\] in .*: at 1 a stage would be left out"),
        ({"keep_ratio": 1.0}, 0.5, "this network prunes no tokens, so keep_ratio can't be set to 0.5"),
    ],
)
def test_keep_ratio_that_does_not_fit(
    small: Callable[..., SCDUNETR], arguments: dict[str, Any], ratio: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        set_own_keep_ratio(ConfigParser({"keep_ratio": ratio}), small(**arguments))


def test_network_of_ones_own(small: Callable[..., SCDUNETR]) -> None:
    network = small()
    network.arguments = {}
    message = "keep_ratio is 0.25 in .*: SCDUNETR has no such argument; take null, and set it where that is built"
    with pytest.raises(ValueError, match=message):
        set_own_keep_ratio(ConfigParser({"keep_ratio": 0.25}), network)


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("inference.json", '{"a": 1,', "Expecting property name"),
        ("inference.yaml", "a: [1, 2\nb: 3", "while parsing a flow sequence"),
    ],
)
def test_damaged_configs(tmp_path: Path, name: str, text: str, why: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(ValueError, match=f"^{file} can't be read, correct it: .*{why}[^\n]*$"):
        check_readable(file)
