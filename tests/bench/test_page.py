from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from scd_plugin.bench.page import page_text, read_folder, write_page
from scd_plugin.bench.results import Results

DOCS = Path(__file__).parents[2] / "docs"


def test_committed_page_is_what_the_command_makes() -> None:
    folder, page = DOCS / "benchmarks", DOCS / "benchmarks.md"
    if not list(folder.glob("*.json")):
        assert not page.exists(), "a page of benchmarks needs the files that its numbers come from"
        return
    runs = read_folder(folder)
    assert page.read_text(encoding="utf-8") == page_text(runs, "benchmarks"), "run: scd bench-page"
    assert sorted(path.stem for path in folder.glob("*.png")) == list(runs)


def test_page_of_a_folder(results: Callable[..., Results], grown: Results, tmp_path: Path) -> None:
    folder = tmp_path / "measured"
    folder.mkdir()
    (folder / "b-growth.json").write_text(json.dumps(grown))
    (folder / "a-speed.json").write_text(json.dumps(results()))
    assert write_page(folder) == tmp_path / "measured.md"
    text = (tmp_path / "measured.md").read_text(encoding="utf-8")
    assert text.startswith(
        "# Benchmarks\n\nMade by `scd bench-page measured` from the JSON files in [measured](measured)"
    )
    assert [line[:8] for line in text.splitlines() if line.startswith("## ")] == ["## btcv:", "## btcv,"]
    assert "](measured/a-speed.png)" in text
    assert (folder / "b-growth.png").exists()
    write_page(folder)
    assert (tmp_path / "measured.md").read_text(encoding="utf-8") == text


def test_empty_folder_makes_no_page(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"benchmarks has no JSON files; write one with scd bench --output"):
        write_page(tmp_path / "benchmarks")
    assert not (tmp_path / "benchmarks.md").exists()
