"""Which names MONAI's parser leaves alone, tried with the parser itself, and which are refused before it sees them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser

from scd_plugin.monai.dataset.labelled_folders import read_dataset
from scd_plugin.monai.plain_text import check_plain_text

CODE = [
    "$__import__('pathlib').Path('ran').touch()",
    "$import antigravity",
    "$",
    "$x$",
    "@bundle_root",
    "@",
    "@_meta_#version",
    "%bundle_root",
    "%/etc/hosts.json#a",
    "%",
    "%50",
    "lesion @##other",
    "lesion 50%#3",
    "a %::b",
    "\n@#",
    "_target_",
]
TEXT = [
    "CT",
    "T1 in $",
    " $x",
    "me@home",
    "50 %",
    "50 % @ 3 T",
    "$x".replace("$", "\N{FULLWIDTH DOLLAR SIGN}"),
    "_target_s",
    "{}",
    "'; import os #",
    "__local_refs['a']",
    "Größe µm",
    "",
    "None",
    "a\n$b",
]


def as_monai_reads(description: dict[str, Any]) -> Any:
    """What comes of the metadata of a bundle after everything in it was resolved."""
    parser = ConfigParser({"bundle_root": "x", "it": "@_meta_#dataset"})
    parser.read_meta({"dataset": description})
    return parser.get_parsed_content("it")


@pytest.mark.parametrize("name", TEXT)
def test_text_is_text_to_monai(name: str) -> None:
    check_plain_text({name: [1], "names": [name, {"0": name}]}, "x")
    read = as_monai_reads({"channel_names": [name], "labels": {name: [1]}, "channel_def": {"0": name}})
    # MONAI writes # as :: but in keys
    text = name.replace("#", "::")
    assert read == {"channel_names": [text], "labels": {name: [1]}, "channel_def": {"0": text}}


@pytest.mark.parametrize("name", CODE)
@pytest.mark.parametrize("wrap", [lambda n: n, lambda n: ["a", n], lambda n: {"0": n}, lambda n: {n: 1}])
def test_code_is_refused(name: str, wrap: Any) -> None:
    with pytest.raises(ValueError, match=r"labels in x.json holds the name .* rename it"):
        check_plain_text(wrap(name), "labels in x.json")


def test_other_values_pass() -> None:
    check_plain_text({"a": [1, 2.5, None, True, {"b": ()}]}, "x")


LAYOUTS = {
    "channel_names": {"channel_names": {"0": "*"}, "labels": {"background": 0, "liver": 1}, "file_ending": ".mha"},
    "labels": {"channel_names": {"0": "CT"}, "labels": {"background": 0, "*": 1}, "file_ending": ".mha"},
    "labels ": {
        "channel_names": {"0": "CT"},
        "labels": {"a": [1, 2], "*": 1},
        "regions_class_order": [1, 2],
        "file_ending": ".mha",
    },
    "modality": {"modality": {"0": "*"}, "labels": {"0": "background", "1": "liver"}, "training": []},
    "labels  ": {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "*"}, "training": []},
}


@pytest.mark.parametrize("key", LAYOUTS)
@pytest.mark.parametrize("name", ["$1/0", "@out_channels", "%/a.json", "_target_"])
def test_data_sets_are_refused_when_they_are_read(tmp_path: Path, key: str, name: str) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps(LAYOUTS[key]).replace("*", name))
    with pytest.raises(ValueError, match=f"{key.strip()} in {tmp_path}/dataset.json holds the name"):
        read_dataset(tmp_path)
