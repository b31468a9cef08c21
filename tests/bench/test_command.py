from __future__ import annotations

import errno
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from scd_plugin.bench.command import settings_from_options
from scd_plugin.bench.results import EntryResult, Results, read_results, write_results
from scd_plugin.bench.settings import Settings
from scd_plugin.cli import app


def test_help_is_light() -> None:
    code = "import sys; from scd_plugin.cli import app; print({'torch', 'monai', 'numpy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "set()\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["unet"], "contestant must be one of scd, dense"),
        (["--settings", ""], "settings must be one of btcv, brats, quick; got ''"),
        (["--settings", "lits"], "settings must be one of btcv, brats, quick; got 'lits'"),
        (
            ["--settings", "brats", "--quick"],
            "settings brats and --quick, which is --settings quick, exclude each other",
        ),
        (["--crop", "96x96"], "crop must be one size such as 96"),
        (["--output", "run.md"], "output must end in .json; got run.md"),
        (["--values", "1,2"], "values 1,2 need --grow, which says what they are of: crop, keep, batch, volume"),
        (["--grow", "depth"], "grow must be one of crop, keep, batch, volume; got 'depth'"),
        (["--grow", "batch", "--values", "1"], "values must be at least two"),
        (["--grow", "volume", "--mode", "train"], "mode must be forward alone where a volume grows"),
        (
            ["--output", "/dev/null/run.json"],
            "output must be a file that can be written, with a picture beside it; got",
        ),
    ],
)
def test_errors_are_one_sentence(words: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["bench", "--device", "cpu", *words])
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith(f"error: {message}")
    assert "Traceback" not in result.output


def test_options_replace_settings() -> None:
    settings = settings_from_options("btcv", crop="64", batch=None, device="cpu", threads=3, modes=("train",))
    assert (settings.crop, settings.batch, settings.threads, settings.modes) == ((64, 64, 64), 1, 3, ("train",))
    assert settings.out_channels == 14
    assert settings_from_options("btcv").device in ("cpu", "cuda")
    assert settings_from_options("btcv").threads >= 1


@pytest.mark.parametrize(
    ("grow", "contestants"),
    [
        ("crop", ("scd", "dense", "nnunet")),
        ("keep", ("scd",)),
        ("batch", ("scd", "dense", "nnunet")),
        ("volume", ("scd", "dense", "nnunet")),
    ],
)
def test_who_grows_where_nobody_is_named(grow: str, contestants: tuple[str, ...]) -> None:
    assert settings_from_options("btcv", grow=grow).contestants == contestants
    assert settings_from_options("btcv", grow=grow, contestants=("unetr",)).contestants == ("unetr",)


def test_volumes_are_not_trained_on() -> None:
    assert settings_from_options("btcv", grow="volume").modes == ("forward",)
    assert settings_from_options("btcv", grow="volume", modes=("train",)).modes == ("train",), "refused by run_bench"


class TestOutput:
    """Of a run that takes no time."""

    @pytest.fixture
    def runs(self, results: Callable[..., Results], monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """What was measured."""
        measured: list[str] = []

        def run(settings: Settings, **_: Any) -> Results:
            measured.append(settings.name)
            return results()

        monkeypatch.setattr("scd_plugin.bench.run.run_bench", run)
        return measured

    def invoke(self, output: Path) -> Result:
        return CliRunner().invoke(app, ["bench", "--quick", "--device", "cpu", "--output", str(output)])

    def test_is_in_a_folder_that_is_made(
        self, runs: list[str], results: Callable[..., Results], tmp_path: Path
    ) -> None:
        done = self.invoke(tmp_path / "new" / "run.json")
        assert done.exit_code == 0, done.output
        assert runs == ["quick"]
        assert read_results(tmp_path / "new" / "run.json") == results()
        assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["run.json", "run.png"]

    @pytest.mark.parametrize("taken", ["run.json", "run.png"])
    def test_that_cannot_be_is_said_before_measuring(self, taken: str, runs: list[str], tmp_path: Path) -> None:
        (tmp_path / taken).mkdir()
        done = self.invoke(tmp_path / "run.json")
        assert done.exit_code == 2
        assert done.stderr == (
            f"error: output must be a file that can be written, with a picture beside it; got {tmp_path / 'run.json'}: "
            "Is a directory\n"
        )
        assert runs == []
        assert [path.name for path in tmp_path.iterdir()] == [taken]

    def test_of_a_run_that_breaks_off_is_as_it_was(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: Any, **__: Any) -> Results:
            raise KeyboardInterrupt

        monkeypatch.setattr("scd_plugin.bench.run.run_bench", broken)
        (tmp_path / "run.json").write_text("of yesterday")
        assert self.invoke(tmp_path / "run.json").exit_code != 0
        assert (tmp_path / "run.json").read_text() == "of yesterday"
        assert [path.name for path in tmp_path.iterdir()] == ["run.json"]

    @pytest.mark.parametrize("step", ["scd_plugin.bench.tables.markdown", "scd_plugin.bench.plots.draw"])
    def test_is_there_whatever_fails_later(
        self,
        step: str,
        runs: list[str],
        results: Callable[..., Results],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def fail(*_: Any, **__: Any) -> str:
            msg = "nobody thought of this"
            raise RuntimeError(msg)

        monkeypatch.setattr(step, fail)
        assert isinstance(self.invoke(tmp_path / "run.json").exception, RuntimeError)
        assert runs == ["quick"]
        assert read_results(tmp_path / "run.json") == results()

    def test_on_a_disk_that_is_full_is_printed_all_the_same(
        self, runs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("scd_plugin.bench.results.write_results", full)
        done = self.invoke(tmp_path / "run.json")
        assert done.exit_code == 1
        assert runs == ["quick"]
        assert done.stdout.startswith("## btcv: scd, dense, unetr; ")
        assert done.stderr.splitlines()[-1] == (
            f"error: {tmp_path / 'run.json'} could not be written: No space left on device"
        )

    def test_of_a_run_in_one_amount_of_work(
        self,
        entry: Callable[..., EntryResult],
        results: Callable[..., Results],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        grow = {"variable": "crop", "values": ["64x64x128", "64x128x64"]}
        run = results(entry(crop=[64, 64, 128]), entry(crop=[64, 128, 64]), grow=grow)
        monkeypatch.setattr("scd_plugin.bench.run.run_bench", lambda *_, **__: run)
        done = self.invoke(tmp_path / "run.json")
        assert done.exit_code == 0, done.output
        assert "| `scd` | - | - | - | - | - |" in done.stdout
        assert (tmp_path / "run.png").exists()


def test_page_that_cannot_be_written_is_one_sentence(results: Callable[..., Results], tmp_path: Path) -> None:
    folder = tmp_path / "measured"
    folder.mkdir()
    write_results(results(), folder / "run.json")
    (folder / "run.png").mkdir()
    result = CliRunner().invoke(app, ["bench-page", str(folder)])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: the page of {folder} and its pictures must be files that can be written")
    assert len(result.stderr.splitlines()) == 1


def test_page_needs_files(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["bench-page", str(tmp_path / "none")])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert "has no JSON files" in result.stderr


def scd(*words: str) -> subprocess.CompletedProcess[str]:
    code = "from scd_plugin.cli import app; app()"
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=600)


@pytest.mark.slow
def test_quick_run_and_its_page(tmp_path: Path) -> None:
    folder = tmp_path / "measured"
    done = scd("bench", "--quick", "--device", "cpu", "--threads", "2", "--output", str(folder / "quick.json"))
    assert done.returncode == 0, done.stderr
    results = read_results(folder / "quick.json")
    assert results["command"] == "scd bench --settings quick --device cpu --threads 2"
    assert [entry["contestant"] for entry in results["entries"]] == ["scd:size=tiny", "dense:size=tiny", "nnunet"]
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
    assert (folder / "quick.png").exists()
    page = scd("bench-page", str(folder))
    assert page.stdout.strip() == str(tmp_path / "measured.md")
    assert done.stdout.splitlines()[0] in (tmp_path / "measured.md").read_text()


@pytest.mark.slow
def test_growth_with_one_that_does_not_fit(tmp_path: Path) -> None:
    words = ("scd:size=tiny", "unetr:hidden_size=48,mlp_dim=96,num_heads=4", "--quick", "--mode", "forward")
    where = ("--device", "cpu", "--grow", "crop", "--values", "32,40", "--output", str(tmp_path / "grown.json"))
    done = scd("bench", *words, *where)
    assert done.returncode == 0, done.stderr
    entries = json.loads((tmp_path / "grown.json").read_text())["entries"]
    assert [bool(entry["problems"]) for entry in entries] == [False, False, False, True]
    assert "at 40, batch 1, forward: unetr needs a crop of multiples of 16 voxels; got 40x40x40" in done.stdout
    assert "Exponents: cost grows like" in done.stdout


@pytest.mark.slow
def test_growth_with_the_volume(tmp_path: Path) -> None:
    output = tmp_path / "volume.json"
    words = ("scd:size=tiny", "dense:size=tiny", "--quick", "--device", "cpu", "--threads", "2")
    done = scd("bench", *words, "--grow", "volume", "--values", "32,48,32x64x48", "--output", str(output))
    assert done.returncode == 0, done.stderr
    results = read_results(output)
    assert [(entry["volume"], entry["windows"]) for entry in results["entries"][::2]] == [
        ([32, 32, 32], 1),
        ([48, 48, 48], 8),
        ([32, 64, 48], 6),
    ]
    one, eight = (median(results["entries"][place]["modes"]["forward"]["seconds"]) for place in (0, 2))
    assert eight > 2 * one
    assert all(list(entry["modes"]) == ["forward"] and entry["macs"] for entry in results["entries"])
    assert "Exponents: cost grows like (voxels of the volume) to the power of" in done.stdout
    assert output.with_suffix(".png").exists()


@pytest.mark.slow
def test_nobody_could_be_measured() -> None:
    done = scd("bench", "unetr", "--quick", "--crop", "40", "--device", "cpu")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "error: no network could be measured; the reasons are listed above"
