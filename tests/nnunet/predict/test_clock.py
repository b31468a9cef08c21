from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from scd_plugin.nnunet.predict.clock import (
    STAGES,
    CaseTimes,
    check_same_settings,
    runs_in,
    timed_run,
    times_table,
    write_times,
)


def times(case: str = "a", **changes: object) -> CaseTimes:
    values = {"windows": 12, "windows_computed": 12, "seconds": dict.fromkeys(STAGES, 1.5), **changes}
    return CaseTimes(case, ("0", "1"), 8, **values)  # type: ignore[arg-type]


def failing(error: Exception) -> CaseTimes:
    one = CaseTimes("a", ("0",), 1)
    with pytest.raises(type(error)), one.stage("read"):
        raise error
    return one


class TestStage:
    def test_adds_up(self) -> None:
        one = CaseTimes("a", ("0",), 1)
        with one.stage("read"):
            pass
        first = one.seconds["read"]
        with one.stage("read"):
            pass
        with one.stage("write"):
            pass
        assert one.seconds["read"] > first > 0
        assert one.seconds.keys() == {"read", "write"}
        assert one.error is None

    @pytest.mark.parametrize(
        ("error", "sentence"),
        [
            (ValueError("image a.mha has 1 channels"), "read: image a.mha has 1 channels"),
            (RuntimeError("in ReadImage\nfile.cxx:97:\n ITK: no reader for a.mha\n"), "RuntimeError: ITK: no reader"),
            (RuntimeError(), "read: RuntimeError, see the lines above"),
            (OSError(28, "No space left on device"), "read: OSError: [Errno 28] No space left on device"),
        ],
        ids=["ours", "many lines", "no line", "from the system"],
    )
    def test_failure_in_one_sentence(self, error: Exception, sentence: str) -> None:
        one = failing(error)
        assert one.error is not None
        assert sentence in one.error
        assert one.error.startswith("read: ")
        assert "\n" not in one.error
        assert one.seconds["read"] > 0


class TestFile:
    def test_content(self, tmp_path: Path) -> None:
        write_times(tmp_path / "t.json", {"batch": 2}, [times(), failing(ValueError("no"))], wall=4.25)
        (run,) = json.loads((tmp_path / "t.json").read_text())["runs"]
        assert run["settings"] == {"batch": 2}
        assert run["wall_seconds"] == 4.25
        assert run["cases"][0] == {
            "case": "a",
            "folds": ["0", "1"],
            "mirrored_passes": 8,
            "windows": 12,
            "windows_computed": 12,
            "seconds": dict.fromkeys(STAGES, 1.5),
            "error": None,
        }
        assert run["cases"][1]["error"] == "read: no"

    def test_runs_before(self, tmp_path: Path) -> None:
        file = tmp_path / "t.json"
        for case in ("a", "b"):
            with timed_run(file, {}, [case], [times(case)]):
                pass
        assert [run["cases"][0]["case"] for run in runs_in(file)] == ["a", "b"]
        # of b one label map lies there, and one that failed is still that of before
        with timed_run(file, {}, ["a", "b"], [times("b"), failing(ValueError("no"))]):
            assert [run["wall_seconds"] is None for run in runs_in(file)] == [False, False, True]
        assert [[one["case"] for one in run["cases"]] for run in runs_in(file)] == [["a"], ["b", "a"]]

    @pytest.mark.parametrize("content", ["no JSON", "[1]", '{"other": 1}', '{"runs": 3}', '{"runs": [3]}'])
    def test_a_foreign_file_has_no_runs(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "t.json").write_text(content)
        assert runs_in(tmp_path / "t.json") == []

    def test_settings_of_a_run_that_is_killed(self, tmp_path: Path) -> None:
        file = tmp_path / "t.json"
        with timed_run(file, {"step_size": 0.5, "output": "here"}, ["a"], [times()]):
            # what is left where no more happens
            killed = file.read_text()
        (ended,) = runs_in(file)
        assert ended["wall_seconds"] >= 0
        file.write_text(killed)
        message = "predicted with step_size 0.5, and now it is 0.75: take the same, another output, or --overwrite"
        with pytest.raises(ValueError, match=message):
            check_same_settings(file, {"step_size": 0.75, "output": "here"}, ["a", "b"])
        check_same_settings(file, {"step_size": 0.75, "output": "here"}, ["b"])
        check_same_settings(file, {"step_size": 0.75, "output": "elsewhere"}, ["a"])
        check_same_settings(file, {"step_size": 0.5, "output": "here", "model": "older files name none"}, ["a"])

    def test_an_overwriting_run_that_is_killed(self, tmp_path: Path) -> None:
        file = tmp_path / "t.json"
        with timed_run(file, {"step_size": 0.5}, ["a", "b"], [times("a"), times("b")]):
            pass
        with timed_run(file, {"step_size": 1.0}, ["a", "b"], [times("a")]):
            killed = file.read_text()
        file.write_text(killed)
        with pytest.raises(ValueError, match=r"step_size 0.5, and now it is 1.0"):
            check_same_settings(file, {"step_size": 1.0}, ["a", "b"])

    def test_the_last_run_counts(self, tmp_path: Path) -> None:
        file = tmp_path / "t.json"
        for step, cases in ((0.5, "ab"), (1.0, "a")):
            with timed_run(file, {"step_size": step}, cases, [times(case) for case in cases]):
                pass
        check_same_settings(file, {"step_size": 1.0}, ["a"])
        with pytest.raises(ValueError, match=r"step_size 0.5, and now it is 1.0"):
            check_same_settings(file, {"step_size": 1.0}, ["a", "b"])

    def test_first_stages_of_a_cascade(self, tmp_path: Path) -> None:
        file, first = tmp_path / "t.json", tmp_path / "first"
        with timed_run(file, {"previous_stage": str(first)}, ["a"], [times("a")]):
            pass
        check_same_settings(file, {"previous_stage": tmp_path / "elsewhere" / ".." / "first"}, ["a"])
        with pytest.raises(ValueError, match=r"predicted with previous_stage .*first, and now it is .*second: take"):
            check_same_settings(file, {"previous_stage": tmp_path / "second"}, ["a"])

    @pytest.mark.parametrize("before", [None, "of an earlier run"])
    def test_a_run_that_finishes_nothing(self, tmp_path: Path, before: str | None) -> None:
        file = tmp_path / "t.json"
        if before:
            file.write_text(before)
        with pytest.raises(KeyboardInterrupt), timed_run(file, {}, ["a"], []):
            raise KeyboardInterrupt
        assert (file.read_text() if file.exists() else None) == before


def test_table() -> None:
    console = Console(file=StringIO(), width=150)
    failed = CaseTimes("case [red]", ("all",), 1, seconds={"read": 0.25}, error="read: no")
    console.print(times_table([times("a", windows_computed=9), failed]))
    assert isinstance(console.file, StringIO)
    heading, first, second = (line.split() for line in console.file.getvalue().splitlines())
    assert heading == ["case", "folds", "mirrored", "passes", "windows", *STAGES]
    assert first == ["a", "0,", "1", "8", "12", "(3", "skipped)", *["1.50"] * 5]
    assert second == ["case", "[red]", "all", "1", "0", "0.25", "-", "-", "-", "-"]
