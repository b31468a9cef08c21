from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from scd_plugin.bench.origin import picture_text
from scd_plugin.bench.page import page_text, read_folder, write_page
from scd_plugin.bench.results import Results

DOCS = Path(__file__).parents[2] / "docs"


def test_committed_page_is_what_the_command_makes() -> None:
    folder, page = DOCS / "benchmarks", DOCS / "benchmarks.md"
    if not list(folder.glob("*.json")):
        assert not page.exists(), "a page of benchmarks needs the files that its numbers come from"
        return
    runs = read_folder(folder)
    text = page.read_text(encoding="utf-8")
    assert text == page_text(runs, "benchmarks"), "run: scd bench-page"
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert len(set(headings)) == len(runs)
    assert sorted(path.stem for path in folder.glob("*.png")) == list(runs)
    for name, results in runs.items():
        with Image.open(folder / f"{name}.png") as picture:
            assert picture.text == picture_text(results), "run: scd bench-page"  # type: ignore[attr-defined]


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


def test_runs_of_the_same_title_are_told_apart(results: Callable[..., Results], grown: Results) -> None:
    text = page_text({"monday": results(), "grown": grown, "tuesday": results()}, "measured")
    same = "## btcv: scd, dense, unetr; crop 96, batch 1, keep 0.1, 1 to 14 channels, float32, eager, 2 CPU threads"
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings[::2] == [f"{same} (monday)", f"{same} (tuesday)"]
    assert headings[1].endswith("2 CPU threads")


def test_page_that_cannot_be_written(results: Callable[..., Results], tmp_path: Path) -> None:
    folder = tmp_path / "measured"
    folder.mkdir()
    (folder / "speed.json").write_text(json.dumps(results()))
    (tmp_path / "measured.md").mkdir()
    with pytest.raises(ValueError, match=r"the page of .*measured and its pictures must be files that can be written"):
        write_page(folder)


def test_empty_folder_makes_no_page(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"benchmarks has no JSON files; write one with scd bench --output"):
        write_page(tmp_path / "benchmarks")
    assert not (tmp_path / "benchmarks.md").exists()
