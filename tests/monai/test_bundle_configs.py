from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser

from scd_plugin.monai.bundle_configs import check_readable, own_keep_ratio


@pytest.mark.parametrize(
    ("config", "ratio"),
    [
        ({}, None),
        ({"keep_ratio": None}, None),
        ({"keep_ratio": "$1 / 4"}, 0.25),
        ({"share": 0.3, "keep_ratio": ["@share", 0.5]}, [0.3, 0.5]),
    ],
)
def test_own_keep_ratio(config: dict[str, Any], ratio: Any) -> None:
    assert own_keep_ratio(ConfigParser(config)) == ratio


@pytest.mark.parametrize("ratio", [1, [0.5, 1.0]])
def test_keep_ratio_that_is_another_network(ratio: Any) -> None:
    with pytest.raises(ValueError, match=r"keep_ratio is \[?[01].* in the bundle's config, and at 1 a stage goes"):
        own_keep_ratio(ConfigParser({"keep_ratio": ratio}))


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
