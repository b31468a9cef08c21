from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from page import main, page_text, read_folder, write_page
from pictures import picture_text
from PIL import Image
from reading import read_results

from scd_plugin.bench.results import Results

DOCS = Path(__file__).parents[2] / "docs"


def test_committed_page_is_what_the_script_makes() -> None:
    folder, page = DOCS / "benchmarks", DOCS / "benchmarks.md"
    if not list(folder.glob("*.json")):
        assert not page.exists(), "a page of benchmarks needs the files that its numbers come from"
        return
    runs = read_folder(folder)
    text = page.read_text(encoding="utf-8")
    assert text == page_text(runs, "benchmarks"), "run: python benchmarks/page.py docs/benchmarks"
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert len(set(headings)) == len(runs)
    assert sorted(path.stem for path in folder.glob("*.png")) == list(runs)
    for name, results in runs.items():
        with Image.open(folder / f"{name}.png") as picture:
            assert picture.text == picture_text(results), "run: python benchmarks/page.py docs/benchmarks"  # type: ignore[attr-defined]


def test_page_of_a_folder(results: Callable[..., Results], grown: Results, tmp_path: Path) -> None:
    folder = tmp_path / "measured"
    folder.mkdir()
    grown.write(folder / "b-growth.json")
    results().write(folder / "a-speed.json")
    assert write_page(folder) == tmp_path / "measured.md"
    text = (tmp_path / "measured.md").read_text(encoding="utf-8")
    assert text.startswith("# Benchmarks\n\nMade by `benchmarks/page.py` from the JSON files in [measured](measured)")
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
    results().write(folder / "speed.json")
    (tmp_path / "measured.md").mkdir()
    with pytest.raises(ValueError, match=r"the page of .*measured and its pictures must be files that can be written"):
        write_page(folder)


def test_empty_folder_makes_no_page(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"benchmarks has no JSON files; write one with scd bench --output"):
        write_page(tmp_path / "benchmarks")
    assert not (tmp_path / "benchmarks.md").exists()


def test_command_says_where_the_page_is(
    results: Callable[..., Results], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "measured").mkdir()
    results().write(tmp_path / "measured" / "run.json")
    main(tmp_path / "measured")
    assert capsys.readouterr().out == f"{tmp_path / 'measured.md'}\n"


def test_command_ends_with_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended:
        main(tmp_path / "none")
    assert ended.value.exit_code == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'none'} has no JSON files; write one with scd bench")


class TestReading:
    def test_results_survive_a_file(self, results: Callable[..., Results], grown: Results, tmp_path: Path) -> None:
        for run in (results(), grown):
            run.write(tmp_path / "run.json")
            assert read_results(tmp_path / "run.json") == run

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("{", r"run\.json cannot be read as a result of scd bench: Expecting property name"),
            ("[]", r"run\.json cannot be read as a result of scd bench: list indices"),
            ('{"schema": 1}', r"run\.json cannot be read as a result of scd bench: 'entries'"),
            ('{"schema": 7}', r"run\.json must be a result of scd bench, schema 1; got schema 7: measure it again"),
            ('{"schema": 1, "entries": [{"contestant": "unet"}]}', "contestant must be one of scd, .*; got 'unet'"),
        ],
    )
    def test_other_files_are_refused(self, tmp_path: Path, text: str, message: str) -> None:
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            read_results(tmp_path / "run.json")

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"nowhere\.json cannot be read as a result of scd bench: .*No such file"):
            read_results(tmp_path / "nowhere.json")
