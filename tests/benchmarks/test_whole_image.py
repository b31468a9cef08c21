from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
import typer
from typer.testing import CliRunner
from whole_image import CASE, ImageSettings, WholeCase, main
from whole_image_report import STAGES, markdown

from scd_plugin.bench.bench_settings import NAMED
from scd_plugin.bench.contestants import parse_contestant
from scd_plugin.bench.results import EntryResult, ModeResult, Results
from scd_plugin.bench.worker import Entry, Subject

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "whole_image.py"
APP = typer.Typer()
APP.command()(main)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """40 x 24 x 24 voxels of 3 x 2 x 2 mm: bright in the half with the higher x."""
    voxels = np.zeros((24, 24, 40), dtype=np.float32)
    voxels[:, :, 20:] = 100
    made = sitk.GetImageFromArray(voxels)
    made.SetSpacing((3, 2, 2))
    sitk.WriteImage(made, tmp_path / "ct.nii.gz")
    return tmp_path / "ct.nii.gz"


@pytest.fixture
def settings(image: Path) -> ImageSettings:
    return ImageSettings(name="quick", **NAMED["quick"], image=str(image), spacing=2.0)


class Bright(torch.nn.Module):
    """Class 1 where the image is above its mean."""

    def __init__(self) -> None:
        super().__init__()
        self.windows = 0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        assert image.shape[2:] == (32, 32, 32)
        self.windows += 1
        return torch.cat((-image, image, torch.full_like(image, -9)), dim=1)


def test_a_label_map_in_the_image_s_own_geometry(
    settings: ImageSettings, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[sitk.Image] = []
    network = Bright()
    case = WholeCase(network, settings)
    write = case._write

    def keep(label: Any, folder: Path) -> None:
        write(label, folder)
        (path,) = folder.iterdir()
        written.append(sitk.ReadImage(path))

    monkeypatch.setattr(case, "_write", keep)
    seconds = case()
    assert network.windows == 3  # 59 x 24 x 24 voxels at 2 mm: 32-voxel windows every 16, the last one shifted
    (label,) = written
    assert label.GetSize() == (40, 24, 24)
    assert label.GetSpacing() == pytest.approx((3, 2, 2))
    assert label.GetPixelID() == sitk.sitkUInt8
    assert np.array_equal(sitk.GetArrayFromImage(label), sitk.GetArrayFromImage(sitk.ReadImage(image)) > 50)
    assert tuple(seconds) == STAGES
    assert min(seconds.values()) > 0


def test_image_with_other_channels(settings: ImageSettings) -> None:
    with pytest.raises(ValueError, match=r"in-channels must be 1, the channels of .*ct\.nii\.gz; got 2"):
        WholeCase(Bright(), replace(settings, in_channels=2))


def test_in_a_process(settings: ImageSettings) -> None:
    threads, benchmark = torch.get_num_threads(), torch.backends.cudnn.benchmark
    try:
        subject = Subject(Entry(parse_contestant("scd:size=tiny"), settings), CASE)
        assert subject.prepare().steps == 1
        seconds, _, stages = subject.turn(1)
        assert stages is not None
        assert 0 < stages["network"] < sum(stages.values()) <= seconds
        assert subject.describe()[1] > 0
    finally:
        torch.set_num_threads(threads)
        torch.backends.cudnn.benchmark = benchmark


class TestCommand:
    def invoke(self, *words: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, list[Any]]:
        asked: list[Any] = []
        monkeypatch.setattr("whole_image.carry_out", lambda *given, **more: asked.append((*given[:2], more)))
        return CliRunner().invoke(APP, [*words, "--device", "cpu", "--threads", "1"]), asked

    def test_of_an_image(self, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        result, [(entries, modes, more)] = self.invoke(str(image), "scd", "--spacing", "2", monkeypatch=monkeypatch)
        assert result.exit_code == 0, result.output
        assert modes == [CASE]
        assert [(entry.settings.image, entry.settings.spacing) for entry in entries] == [(str(image), 2)]
        assert more["command"] == (
            f"python benchmarks/whole_image.py {image} scd --settings btcv --device cpu --threads 1 --spacing 2.0"
        )

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            ((), "image must be a file that MONAI reads, such as NIfTI; got nowhere.nii.gz, which is no file"),
            (("--spacing", "0"), "spacing must be more than 0; got 0.0"),
            (("--overlap", "1"), "overlap must be in [0, 1), a share of the window; got 1.0"),
        ],
    )
    def test_bad_settings(self, words: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
        result, asked = self.invoke("nowhere.nii.gz", *words, monkeypatch=monkeypatch)
        assert result.exit_code == 2
        assert result.stderr == f"error: {message}\n"
        assert asked == []

    def test_modes_are_no_option(self, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        result, _ = self.invoke(str(image), "--mode", "train", monkeypatch=monkeypatch)
        assert result.exit_code == 2
        assert "No such option: --mode" in result.stderr


def test_tables(entry: Callable[..., EntryResult], results: Callable[..., Results]) -> None:
    def case(contestant: str, network: float) -> EntryResult:
        turns = [{stage: network if stage == "network" else 1.0 for stage in STAGES}] * 2
        mode = ModeResult(steps=1, before_bytes=0, peak_bytes=1, seconds=[network + 4] * 2, stages=turns)
        return entry(contestant, modes={"case": mode})

    measured = results(case("fast", 4), case("nnunet", 12), entry("unetr", modes={}, problems={"case": "does not fit"}))
    measured.settings |= {"image": "folder/ct.nii.gz", "spacing": 1.5, "overlap": 0.5}
    text = markdown(measured)
    assert text.startswith("## btcv: fast, nnunet, unetr; ct.nii.gz at 1.5 mm, windows overlap by 0.5, crop 96, ")
    assert "| `fast` | 8.00 (8.00 to 8.00) | 1.00 | 1.00 | 4.00 | 1.00 | 1.00 |" in text
    assert "| `unetr` | - | - | - | - | - | - |" in text
    assert "| Against `nnunet` | Whole case | Network |" in text
    assert "| `fast` | 2.00 x (2.00 to 2.00) | 3.00 x (3.00 to 3.00) |" in text
    assert "- `unetr` at 96, batch 1, case: does not fit" in text
    assert "windows/s" not in text


@pytest.mark.slow
def test_script(image: Path, tmp_path: Path) -> None:
    output = tmp_path / "case.json"
    words = (str(image), "scd:size=tiny", "nnunet", "--quick", "--device", "cpu", "--threads", "1")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *words, "--output", str(output)], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(output.read_text())
    assert results["settings"]["image"] == str(image)
    for entry in results["entries"]:
        measured = entry["modes"]["case"]
        assert measured["steps"] == 1
        assert [tuple(turn) for turn in measured["stages"]] == [STAGES] * 2
    assert "| Against `nnunet` | Whole case | Network |" in done.stdout
