from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from typer.testing import CliRunner

from scd_plugin.bench.case import WholeCase
from scd_plugin.bench.entries import Entry
from scd_plugin.bench.plots import figure_of
from scd_plugin.bench.results import EntryResult, Results
from scd_plugin.bench.settings import CASE, CASE_STAGES, SETTINGS, Settings, command_line
from scd_plugin.bench.tables import markdown
from scd_plugin.bench.worker import Subject
from scd_plugin.cli import app


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
def settings(image: Path) -> Settings:
    return replace(SETTINGS["quick"], image=str(image), spacing=2.0)


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
    settings: Settings, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[sitk.Image] = []
    network = Bright()
    case = WholeCase(network, settings, nullcontext)
    write = case._write

    def keep(label: object, folder: Path) -> None:
        write(label, folder)  # type: ignore[arg-type]
        (path,) = folder.iterdir()
        written.append(sitk.ReadImage(path))

    monkeypatch.setattr(case, "_write", keep)
    case()
    assert network.windows == 3  # 59 x 24 x 24 voxels at 2 mm: 32-voxel windows every 16, the last one shifted
    (label,) = written
    assert label.GetSize() == (40, 24, 24)
    assert label.GetSpacing() == pytest.approx((3, 2, 2))
    assert label.GetPixelID() == sitk.sitkUInt8
    assert np.array_equal(sitk.GetArrayFromImage(label), sitk.GetArrayFromImage(sitk.ReadImage(image)) > 50)
    assert list(case.seconds) == list(CASE_STAGES)
    assert min(case.seconds.values()) > 0


def test_image_with_other_channels(settings: Settings) -> None:
    with pytest.raises(ValueError, match=r"in-channels must be 1, the channels of .*ct\.nii\.gz; got 2"):
        WholeCase(Bright(), replace(settings, in_channels=2), nullcontext)


def test_worker(settings: Settings) -> None:
    subject = Subject(Entry("scd:size=tiny", settings), CASE)
    subject.prepare()
    seconds = subject.turn(1)
    assert sum(subject.stages().values()) <= seconds
    assert subject.stages()["network"] > 0
    assert subject.describe().macs > 0


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"image": "nowhere.nii.gz"}, r"image must be a file that MONAI reads, such as NIfTI; got nowhere\.nii\.gz"),
        ({"overlap": 1.0}, r"overlap must be in \[0, 1\), a share of the window; got 1\.0"),
        ({"spacing": 0.0}, r"spacing must be more than 0; got 0\.0"),
    ],
)
def test_bad_settings(settings: Settings, changes: dict[str, object], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        replace(settings, **changes)  # type: ignore[arg-type]


def test_modes_and_command(settings: Settings, image: Path) -> None:
    assert settings.measured_modes == (CASE,)
    assert SETTINGS["btcv"].measured_modes == ("forward", "train")
    assert command_line(settings).endswith(f"--image {image} --spacing 2.0")


def test_not_together_with_modes(image: Path) -> None:
    answer = CliRunner().invoke(app, ["bench", "--quick", "--image", str(image), "--mode", "train"])
    assert answer.exit_code == 2
    assert f"error: image {image} is measured alone; leave out --mode and --grow" in answer.stderr


class TestTables:
    @pytest.fixture
    def measured(self, entry: Callable[..., EntryResult], results: Callable[..., Results]) -> Results:
        def case(contestant: str, network: float) -> EntryResult:
            turns = [{stage: network if stage == "network" else 1.0 for stage in CASE_STAGES}] * 2
            mode = {"seconds": [network + 4] * 2, "steps": 1, "before_bytes": 0, "peak_bytes": 1, "stages": turns}
            return entry(contestant, modes={CASE: mode})

        made = results(case("fast", 4), case("nnunet", 12), entry("unetr", modes={}, problems={CASE: "does not fit"}))
        made["settings"] |= {"image": "folder/ct.nii.gz", "spacing": 1.5, "overlap": 0.5}
        return made

    def test_rows(self, measured: Results) -> None:
        text = markdown(measured)
        assert text.startswith("## btcv: fast, nnunet, unetr; ct.nii.gz at 1.5 mm, windows overlap by 0.5, crop 96, ")
        assert "| `fast` | 8.00 (8.00 to 8.00) | 1.00 | 1.00 | 4.00 | 1.00 | 1.00 |" in text
        assert "| `unetr` | - | - | - | - | - | - |" in text
        assert "| Against `nnunet` | Whole case | Network |" in text
        assert "| `fast` | 2.00 x (2.00 to 2.00) | 3.00 x (3.00 to 3.00) |" in text
        assert "- `unetr` at 96, batch 1, case: does not fit" in text
        assert "windows/s" not in text

    def test_picture_shows_seconds(self, measured: Results) -> None:
        (panel,) = figure_of(measured).axes
        assert panel.get_xlabel() == "whole case, s"
        assert [bar.get_width() for bar in panel.patches] == [8, 16]
