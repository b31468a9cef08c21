from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scd_plugin.bench.command import settings_from_options
from scd_plugin.bench.results import read_results
from scd_plugin.cli import app


def test_help_is_light() -> None:
    code = "import sys; from scd_plugin.cli import app; print({'torch', 'monai', 'numpy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "set()\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["unet"], "contestant must be one of scd, dense"),
        (["--settings", "lits"], "settings must be one of btcv, brats, quick; got 'lits'"),
        (["--crop", "96x96"], "crop must be one size such as 96"),
        (["--output", "run.md"], "output must end in .json; got run.md"),
        (["--values", "1,2"], "values 1,2 need --grow, which says what they are of: crop, keep, batch"),
        (["--grow", "depth"], "grow must be one of crop, keep, batch; got 'depth'"),
        (["--grow", "batch", "--values", "1"], "values must be at least two"),
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
    [("crop", ("scd", "dense", "nnunet")), ("keep", ("scd",)), ("batch", ("scd", "dense", "nnunet"))],
)
def test_who_grows_where_nobody_is_named(grow: str, contestants: tuple[str, ...]) -> None:
    assert settings_from_options("btcv", grow=grow).contestants == contestants
    assert settings_from_options("btcv", grow=grow, contestants=("unetr",)).contestants == ("unetr",)


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
def test_nobody_could_be_measured() -> None:
    done = scd("bench", "unetr", "--quick", "--crop", "40", "--device", "cpu")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "error: no network could be measured; the reasons are listed above"
