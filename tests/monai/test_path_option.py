"""Folders whose names look like Python values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scd_plugin.monai.path_option import path_option


@pytest.mark.parametrize(
    ("given", "path"),
    [(2024, Path("2024")), ("./1e3", Path("1e3")), (Path("a"), Path("a")), ("~/a", Path("~/a").expanduser())],
)
def test_paths(given: Any, path: Path) -> None:
    assert path_option(given) == path


@pytest.mark.parametrize("given", [1e3, True, None, ["a"], ("a", "b"), {"a": "b"}])
def test_no_paths(given: Any) -> None:
    with pytest.raises(ValueError, match=r"^dataset_dir must be a path; it arrives as .*: write it as ./NAME"):
        path_option(given)


def test_nothing() -> None:
    with pytest.raises(ValueError, match=r"^dataset_dir is empty, as where a variable of the shell is not set"):
        path_option("")


def test_the_option_is_named() -> None:
    with pytest.raises(ValueError, match=r"^work_dir must be a path; it arrives as 1000.0 \(float\)"):
        path_option(1e3, "work_dir")
