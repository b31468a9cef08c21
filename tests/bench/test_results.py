from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from scd_plugin.bench.results import Results, Spread, paired_ratio, read_results, spread, write_results


def test_spread() -> None:
    assert spread([5, 1, 2, 4, 3]) == Spread(1, 2, 3, 4, 5)
    assert spread([2.5]) == Spread(2.5, 2.5, 2.5, 2.5, 2.5)


def test_ratio_is_taken_repeat_by_repeat() -> None:
    """A machine that is half as fast in the second repeat changes nothing."""
    assert paired_ratio([4.0, 8.0, 4.0], [2.0, 4.0, 2.0]) == Spread(2, 2, 2, 2, 2)


def test_results_survive_a_file(results: Callable[..., Results], tmp_path: Path) -> None:
    write_results(results(), tmp_path / "run.json")
    assert read_results(tmp_path / "run.json") == results()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "run.json cannot be read as JSON"),
        ("[]", "must be a result of scd bench, schema 1; got schema none"),
        ('{"schema": 1}', "must be a result of scd bench, schema 1; got schema none"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_results(tmp_path / "run.json")


def test_another_schema_is_refused(results: Callable[..., Results], tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps(results(schema=7)))
    with pytest.raises(ValueError, match="got schema 7: measure it again"):
        read_results(tmp_path / "run.json")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none.json cannot be read as JSON"):
        read_results(tmp_path / "none.json")
