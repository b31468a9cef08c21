from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from page import page_text, read_folder
from results_page import command_table, filled, main, ratio_table, read_commands, runs_table, share_table

from scd_plugin.bench.results import EntryResult, Results

DOCS = Path(__file__).parents[2] / "docs"


def test_committed_tables_are_what_the_script_makes() -> None:
    text = (DOCS / "results.md").read_text(encoding="utf-8")
    runs, commands = read_folder(DOCS / "benchmarks"), read_commands(DOCS / "benchmarks")
    assert "| `scd` | 1.83 | 1.82 |" in text
    assert text == filled(text, runs, commands), "run: python benchmarks/results_page.py docs/results.md"


def test_no_cell_of_a_table_is_a_heap_of_numbers() -> None:
    text = (DOCS / "results.md").read_text(encoding="utf-8").replace("<!--", "")
    cells = [cell for line in text.splitlines() if line.startswith("|") for cell in line.split("|")]
    measured = [re.sub(r"`[^`]*`|\(http[^)]*\)", "", cell) for cell in cells]
    assert [cell for cell in measured if len(re.findall(r"\d+(?:\.\d+)?", cell)) > 3] == []


def test_against_a_network(results: Callable[..., Results]) -> None:
    assert ratio_table(results(), "dense").splitlines() == [
        "| Against `dense` | Inference | Training | Inference memory | Training memory | Operations |",
        "| --- | --- | --- | --- | --- | --- |",
        "| `scd` | 2.00 | 2.00 | 50 % | 50 % | 50 % |",
        "| `unetr` | - | - | - | - | - |",
    ]
    with pytest.raises(ValueError, match=r"compares with one of scd, dense, unetr; got 'primus-s'"):
        ratio_table(results(), "primus-s")


def test_whole_commands(results: Callable[..., Results]) -> None:
    run = {"trainer": "nnUNetTrainer", "options": "", "seconds": 90.6, "peak_bytes": 3.46e9, "alike": 0.99954}
    stages = {"read": 0.1, "preprocess": 3.91, "network": 73.6, "resample": 3.64, "write": 0.1}
    options = "--dtype bfloat16"
    measured = {
        "created": "2026-11-29",
        "machine": {"processor": "AMD EPYC", "cores": 2},
        "versions": {"torch": "2.14", "cuda": None},
        "runs": [
            {**run, "command": "scd predict", "options": options, "stages": stages},
            {**run, "command": "nnUNetv2_predict"},
        ],
    }
    lines = command_table(measured).splitlines()
    assert lines[2:] == [
        f"| `scd predict`, `nnUNetTrainer` | `{options}` | 91 | 3.9 | 73.6 | 3.6 | 3.5 | 99.95 % |",
        "| `nnUNetv2_predict`, `nnUNetTrainer` |  | 91 | - | - | - | 3.5 | - |",
        "",
        "Measured 2026-11-29 on AMD EPYC, 2 cores; torch 2.14.",
    ]
    page = "<!-- ct commands -->\n<!-- end -->"
    assert lines[0] in filled(page, {"btcv": results()}, {"ct": measured})
    with pytest.raises(ValueError, match=r"name runs of the folder \(btcv\); got ct"):
        filled(page, {"btcv": results()})


def test_growth_compares_at_the_same_crop(results: Callable[..., Results], entry: Callable[..., EntryResult]) -> None:
    grown = results(
        entry("dense", crop=[64] * 3),
        entry("scd", crop=[64] * 3),
        entry("dense", crop=[128] * 3, slower=4),
        entry("scd", crop=[128] * 3),
    )
    rows = ratio_table(grown, "dense").splitlines()[2:]
    assert rows == [
        "| `scd` | 64 | 1.00 | 1.00 | 100 % | 100 % | 100 % |",
        "| `scd` | 128 | 4.00 | 4.00 | 25 % | 25 % | 25 % |",
    ]


def test_shares_and_runs(results: Callable[..., Results]) -> None:
    assert share_table(results()).splitlines()[::2] == [
        "| Network | tokenizer | before pruning | decoder |",
        "| `scd` | 5 % | 25 % | 60 % |",
    ]
    text = runs_table({"monday": results(), "old-friday": results()})
    assert "- Abacus 7 (AVX2), 2 cores, 23.5 GiB, 2 CPU threads\n- scd_plugin 0.1.0, torch 2.14.0\n" in text
    command = "`scd bench scd dense unetr --settings btcv --device cpu --threads 2`"
    assert text.splitlines()[-2:] == [
        f"| `monday` | 2026-11-24 | 3 |  | {command} |",
        f"| `old-friday` | 2026-11-24 | 3 | old | {command} |",
    ]


def test_page_keeps_what_is_written_by_hand(results: Callable[..., Results]) -> None:
    page = "# A\n\n<!-- monday against dense -->\n<!-- end -->\n\nwords\n\n<!-- runs -->\nstale\n<!-- end -->\n"
    made = filled(page, {"monday": results(), "unused": results()})
    assert "stale" not in made
    assert "words" in made
    assert "| `scd` | 2.00 |" in made
    assert "unused" not in made
    assert filled(made, {"monday": results()}) == made
    with pytest.raises(ValueError, match=r"name runs of the folder \(tuesday\); got monday"):
        filled(page, {"tuesday": results()})


def test_old_runs_are_marked(results: Callable[..., Results], grown: Results) -> None:
    headings = [line for line in page_text({"old-a": results(), "b": grown}, "x").splitlines() if line[:2] == "##"]
    assert [heading.endswith(" (old)") for heading in headings] == [True, False]


def test_command_ends_with_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "results.md").write_text("<!-- a shares -->\n<!-- end -->\n")
    with pytest.raises(typer.Exit) as ended:
        main(tmp_path / "results.md")
    assert ended.value.exit_code == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_command_fills_a_page(results: Callable[..., Results], tmp_path: Path) -> None:
    (tmp_path / "benchmarks").mkdir()
    results().write(tmp_path / "benchmarks" / "a.json")
    (tmp_path / "results.md").write_text("<!-- a against dense -->\n<!-- end -->\n")
    main(tmp_path / "results.md")
    assert "| `scd` | 2.00 | 2.00 |" in (tmp_path / "results.md").read_text()
