from __future__ import annotations

import errno
import io
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from scd_plugin.bench.bench_settings import BenchSettings
from scd_plugin.bench.command import settings_from_options, show
from scd_plugin.bench.contestants import CONTESTANTS
from scd_plugin.bench.results import Results
from scd_plugin.bench.worker import Entry
from scd_plugin.cli import app


def invoke(*words: str) -> Result:
    return CliRunner().invoke(app, ["bench", "--device", "cpu", *words])


def test_tables_are_drawn_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "## btcv\n\n| Network | GMACs |\n|---|---|\n| scd | 131.8 |\n"
    shown = {}
    for forced in ("", "1"):
        monkeypatch.setenv("FORCE_COLOR", forced)
        file = io.StringIO()
        show(text, file)
        shown[forced] = file.getvalue()
    assert shown[""] == text
    assert "|---|" not in shown["1"]
    assert "131.8" in shown["1"]


def test_help_is_light() -> None:
    code = "import sys; from scd_plugin.cli import app; print({'torch', 'monai', 'numpy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "set()\n"


def test_help_says_who_takes_the_keep_ratio() -> None:
    said = " ".join(CliRunner().invoke(app, ["bench", "--help"], env={"COLUMNS": "400"}).stdout.split())
    taking = "scd, scd-plain and scd-primus-* that name neither a keep_ratio nor a size"
    assert f"{taking}, since a size is a preset with ratios" in said
    assert "scd:size=small-fast for any preset" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["unet"], "contestant must be one of scd, early"),
        (["scd", "scd"], "contestants must be at least one, each named once; got scd, scd"),
        (["scd:size=huge"], "the preset (size) must be one of tiny, small"),
        (
            ["scd:size=small", "dense", "--keep-ratio", "0.5"],
            "keep-ratio is for scd, scd-plain and scd-primus-* without size or",
        ),
        (["--settings", ""], "settings must be one of btcv, brats, quick; got ''"),
        (["--settings", "lits"], "settings must be one of btcv, brats, quick; got 'lits'"),
        (
            ["--settings", "brats", "--quick"],
            "settings brats and --quick, which is --settings quick, exclude each other",
        ),
        (["--crop", "96x96"], "sizes in voxels must be one such as 96"),
        (["--output", "run.md"], "output must be a file that can be written and ends in .json; got run.md"),
        (["--output", "/dev/null/run.json"], "output must be a file that can be written and ends in .json; got /dev"),
    ],
)
def test_errors_are_one_sentence(words: list[str], message: str) -> None:
    result = invoke(*words)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith(f"error: {message}")
    assert "Traceback" not in result.output


def test_options_replace_settings() -> None:
    settings = settings_from_options(BenchSettings, crop="64", batch=None, device="cpu", threads=3, modes=["train"])
    assert (settings.crop, settings.batch, settings.threads, settings.modes) == ((64, 64, 64), 1, 3, ("train",))
    assert (settings.name, settings.out_channels) == ("btcv", 14)
    assert settings_from_options(BenchSettings, device="auto").device in ("cpu", "cuda")
    assert settings_from_options(BenchSettings, quick=True).repeats == 2
    assert settings_from_options(BenchSettings, settings="quick").threads >= 1


class TestRun:
    """That takes no time."""

    @pytest.fixture
    def runs(self, results: Callable[..., Results], monkeypatch: pytest.MonkeyPatch) -> list[Any]:
        """Commands and what was measured."""
        measured: list[Any] = []

        def run(entries: Sequence[Entry], modes: Sequence[Any], *, command: str, **_: Any) -> Results:
            measured.append((command, entries, [mode.name for mode in modes]))
            return results()

        monkeypatch.setattr("scd_plugin.bench.turns.measure", run)
        return measured

    def test_of_everyone(self, runs: list[Any]) -> None:
        assert invoke("--threads", "2").exit_code == 0
        ((command, entries, modes),) = runs
        assert command == f"scd bench {' '.join(CONTESTANTS)} --settings btcv --device cpu --threads 2"
        assert [entry.contestant.label for entry in entries] == list(CONTESTANTS)
        assert modes == ["forward", "train"]

    def test_of_some(self, runs: list[Any]) -> None:
        words = ("scd", "scd:size=small", "--keep-ratio", "0.5", "--mode", "train", "--compile", "--return-memory")
        assert invoke(*words, "--threads", "1", "--settings", "brats").exit_code == 0
        ((command, entries, modes),) = runs
        assert command == (
            "scd bench scd scd:size=small --settings brats --keep-ratio 0.5 --device cpu --compile --threads 1 "
            "--return-memory --mode train"
        )
        assert [entry.contestant.keep_ratio(entry.settings) for entry in entries] == [0.5, 0.25]
        assert modes == ["train"]

    def test_output_is_in_a_folder_that_is_made(
        self, runs: list[Any], results: Callable[..., Results], tmp_path: Path
    ) -> None:
        done = invoke("--quick", "--output", str(tmp_path / "new" / "run.json"))
        assert done.exit_code == 0, done.output
        assert [entry.contestant.label for entry in runs[0][1]] == ["scd:size=tiny", "dense:size=tiny", "nnunet"]
        found = json.loads((tmp_path / "new" / "run.json").read_text())
        assert (found["created"], len(found["entries"])) == (results().created, 3)
        assert done.stdout.startswith("## btcv: scd, dense, unetr; ")

    def test_output_that_cannot_be_is_said_before_measuring(self, runs: list[Any], tmp_path: Path) -> None:
        (tmp_path / "run.json").mkdir()
        done = invoke("--quick", "--output", str(tmp_path / "run.json"))
        assert done.exit_code == 2
        assert done.stderr.startswith("error: output must be a file that can be written and ends in .json; got ")
        assert runs == []

    def test_output_of_a_run_that_breaks_off_is_as_it_was(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: Any, **__: Any) -> Results:
            raise KeyboardInterrupt

        monkeypatch.setattr("scd_plugin.bench.turns.measure", broken)
        (tmp_path / "run.json").write_text("of yesterday")
        for name in ("run.json", "new.json"):
            assert invoke("--quick", "--output", str(tmp_path / name)).exit_code != 0
        assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("run.json", "of yesterday")]

    def test_output_is_there_whatever_fails_later(
        self, runs: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: Any, **__: Any) -> str:
            msg = "nobody thought of this"
            raise RuntimeError(msg)

        monkeypatch.setattr("scd_plugin.bench.tables.markdown", fail)
        assert isinstance(invoke("--quick", "--output", str(tmp_path / "run.json")).exception, RuntimeError)
        assert len(runs) == 1
        assert (tmp_path / "run.json").exists()

    def test_on_a_disk_that_is_full_is_printed_all_the_same(
        self, runs: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(Results, "write", full)
        done = invoke("--quick", "--output", str(tmp_path / "run.json"))
        assert done.exit_code == 1
        assert len(runs) == 1
        assert done.stdout.startswith("## btcv: scd, dense, unetr; ")
        assert done.stderr.splitlines()[-1] == (
            f"error: {tmp_path / 'run.json'} could not be written: No space left on device"
        )


def scd(*words: str) -> subprocess.CompletedProcess[str]:
    code = "from scd_plugin.cli import app; app()"
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=600)


@pytest.mark.slow
def test_quick_run(tmp_path: Path) -> None:
    output = tmp_path / "quick.json"
    done = scd("bench", "--quick", "--device", "cpu", "--threads", "1", "--output", str(output))
    assert done.returncode == 0, done.stderr
    results = json.loads(output.read_text())
    labels = ["scd:size=tiny", "dense:size=tiny", "nnunet"]
    assert results["command"] == f"scd bench {' '.join(labels)} --settings quick --device cpu --threads 1"
    assert [entry["contestant"] for entry in results["entries"]] == labels
    for entry in results["entries"]:
        assert entry["problems"] == {}
        assert entry["parameters"]
        assert entry["macs"]
        assert sum(entry["parts"].values()) == pytest.approx(1)
        for measured in entry["modes"].values():
            assert len(measured["seconds"]) == 2
            assert min(measured["seconds"]) > 0
            assert measured["peak_bytes"] > measured["before_bytes"]
    assert "| Against `dense:size=tiny` |" in done.stdout


@pytest.mark.slow
def test_nobody_could_be_measured() -> None:
    done = scd("bench", "unetr", "--quick", "--crop", "40", "--device", "cpu")
    assert done.returncode == 1
    assert "- `unetr` at 40, batch 1, forward: unetr needs a crop of multiples of 16 voxels; got 40" in done.stdout
    assert done.stderr.splitlines()[-1] == "error: no network could be measured; the reasons are listed above"
