from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import typer
from click.testing import Result
from growth import VALUES, GrowthSettings, grown_entries, main
from typer.testing import CliRunner

from scd_plugin.bench.bench_settings import NAMED
from scd_plugin.bench.contestants import parse_contestants
from scd_plugin.bench.worker import Entry

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "growth.py"
BTCV = GrowthSettings(name="btcv", **NAMED["btcv"])
APP = typer.Typer()
APP.command()(main)


def grown(variable: str, *values: str, of: tuple[str, ...] = ("scd", "dense")) -> list[Entry]:
    return grown_entries(parse_contestants(of), BTCV, variable, values)


def test_crop() -> None:
    assert [(entry.contestant.label, entry.settings.crop) for entry in grown("crop", "64", "64x64x96")] == [
        ("scd", (64, 64, 64)),
        ("dense", (64, 64, 64)),
        ("scd", (64, 64, 96)),
        ("dense", (64, 64, 96)),
    ]


def test_batch_and_keep_ratio() -> None:
    assert [entry.settings.batch for entry in grown("batch", "1", "4")] == [1, 1, 4, 4]
    assert [
        entry.contestant.keep_ratio(entry.settings) for entry in grown("keep", "0.1", "0.5", of=("scd", "scd-primus-s"))
    ] == [0.1, 0.1, 0.5, 0.5]


def test_volume_grows_and_the_crop_stays() -> None:
    one, other = grown("volume", "96", "96x128x192", of=("scd",))
    assert one.settings.work() == {"crop": [96, 96, 96], "batch": 1, "volume": [96, 96, 96], "windows": 1}
    assert other.settings.work() == {"crop": [96, 96, 96], "batch": 1, "volume": [96, 128, 192], "windows": 6}
    assert other.label == "scd at crop 96, batch 1, volume 96x128x192, windows 6"


@pytest.mark.parametrize("variable", VALUES)
def test_default_values_can_be(variable: str) -> None:
    assert len(grown(variable, *VALUES[variable], of=("scd",))) == 4


@pytest.mark.parametrize(
    ("of", "variable", "values", "message"),
    [
        ("scd", "depth", ("1", "2"), "what grows must be one of crop, keep, batch, volume; got 'depth'"),
        ("scd", "batch", ("1",), "values must be at least two, all different, for a fit; got 1"),
        ("scd", "batch", ("1", "01"), "values must be at least two, all different, for a fit; got 1, 01"),
        ("scd", "crop", ("64", "64x64x64"), "values must be at least two, all different, for a fit; got 64, 64x64x64"),
        ("scd", "volume", ("96", "96x96"), "sizes in voxels must be one such as 96, or three"),
        ("scd", "batch", ("1", "2two"), "values of batch must be numbers that can be; got '2two': invalid literal"),
        ("scd", "batch", ("0", "1"), "values of batch must be numbers that can be; got '0': batch must be more than 0"),
        ("scd", "keep", ("0.1", "5"), r"got '5': keep-ratio must be in \(0, 1\]"),
        (
            "dense",
            "keep",
            ("0.1", "1"),
            r"dense cannot grow in its keep ratio; name contestants that prune \(scd, scd-",
        ),
        ("scd:keep_ratio=1", "keep", ("0.1", "1"), "scd:keep_ratio=1 cannot grow in its keep ratio"),
        ("scd:size=small", "keep", ("0.1", "1"), "scd:size=small cannot grow in its keep ratio"),
    ],
)
def test_what_cannot_grow(of: str, variable: str, values: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        grown(variable, *values, of=(of,))


class TestCommand:
    @pytest.fixture
    def runs(self, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
        asked: list[Any] = []
        monkeypatch.setattr("growth.carry_out", lambda *words, **more: asked.append((*words[:2], more)))
        return asked

    def invoke(self, *words: str) -> Result:
        return CliRunner().invoke(APP, [*words, "--device", "cpu", "--threads", "1"])

    @pytest.mark.parametrize(
        ("words", "command"),
        [
            (("crop", "64", "96", "scd"), "crop 64 96 scd --settings btcv --device cpu --threads 1"),
            (("keep",), "keep 0.1 0.25 0.5 0.75 scd --settings btcv --device cpu --threads 1"),
            (("batch", "1", "2"), "batch 1 2 scd dense nnunet --settings btcv --device cpu --threads 1"),
            (
                ("volume", "96", "144", "scd", "--overlap", "0.25", "--crop", "64"),
                "volume 96 144 scd --settings btcv --crop 64 --device cpu --threads 1 --mode forward --overlap 0.25",
            ),
        ],
    )
    def test_values_begin_with_digits(self, words: tuple[str, ...], command: str, runs: list[Any]) -> None:
        result = self.invoke(*words)
        assert result.exit_code == 0, result.output
        ((_, modes, more),) = runs
        assert more["command"] == f"python benchmarks/growth.py {command}"
        assert more["grow"]["variable"] == words[0]
        assert [mode.name for mode in modes] == (["forward"] if words[0] == "volume" else ["forward", "train"])

    def test_errors_are_one_sentence(self, runs: list[Any]) -> None:
        result = self.invoke("depth", "1", "2")
        assert result.exit_code == 2
        assert result.stderr == "error: what grows must be one of crop, keep, batch, volume; got 'depth'\n"
        assert runs == []

    def test_volumes_are_not_trained_on(self, runs: list[Any]) -> None:
        result = self.invoke("volume", "96", "144", "--mode", "train")
        assert result.exit_code == 2
        assert result.stderr == (
            "error: mode must be forward where a volume grows, which is not trained on; got train\n"
        )
        assert runs == []


def run(*words: str) -> subprocess.CompletedProcess[str]:
    where = ("--quick", "--device", "cpu", "--threads", "1")
    return subprocess.run([sys.executable, str(SCRIPT), *words, *where], capture_output=True, text=True, timeout=600)


@pytest.mark.slow
def test_crop_with_one_that_does_not_fit(tmp_path: Path) -> None:
    small = "unetr:hidden_size=48,mlp_dim=96,num_heads=4"
    output = tmp_path / "grown.json"
    done = run("crop", "32", "40", "scd:size=tiny", small, "--mode", "forward", "--output", str(output))
    assert done.returncode == 0, done.stderr
    entries = json.loads(output.read_text())["entries"]
    assert [bool(entry["problems"]) for entry in entries] == [False, False, False, True]
    assert "at 40, batch 1, forward: unetr needs a crop of multiples of 16 voxels; got 40" in done.stdout
    assert "Exponents: cost grows like" in done.stdout


@pytest.mark.slow
def test_volumes_in_windows(tmp_path: Path) -> None:
    output = tmp_path / "volume.json"
    done = run("volume", "32", "48", "32x64x48", "scd:size=tiny", "dense:size=tiny", "--output", str(output))
    assert done.returncode == 0, done.stderr
    entries = json.loads(output.read_text())["entries"]
    assert [(entry["volume"], entry["windows"]) for entry in entries[::2]] == [
        ([32, 32, 32], 1),
        ([48, 48, 48], 8),
        ([32, 64, 48], 6),
    ]
    one, eight = (median(entries[place]["modes"]["forward"]["seconds"]) for place in (0, 2))
    assert eight > 2 * one
    assert all(list(entry["modes"]) == ["forward"] and entry["macs"] for entry in entries)
    assert "Exponents: cost grows like (voxels of the volume) to the power of" in done.stdout
