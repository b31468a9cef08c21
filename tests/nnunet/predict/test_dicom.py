"""`scd predict` on folders of DICOM series."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk

from scd_plugin.dicom_series import series_to_file
from scd_plugin.nnunet.predict.jobs import find_cases
from scd_plugin.nnunet.predict.run import predict
from scd_plugin.nnunet.predict.settings import PredictSettings

ON_CPU = PredictSettings(device="cpu", statistics=True)


@pytest.fixture
def patients(tmp_path: Path, volumes: Any) -> Path:
    """Two regular series, and one with a slice missing."""
    folder = tmp_path / "patients"
    volumes.series(folder / "p1" / "study" / "ct", "1.2.4", slices=9)
    volumes.series(folder / "p2.a", "1.2.5", positions=[(5.0, -3.0, 2.5 * i) for i in range(8)])
    volumes.series(folder / "p3", "1.2.6", positions=[(0.0, 0.0, z) for z in (0.0, 1.0, 2.0, 4.0, 5.0)])
    return folder


def test_label_maps_in_the_geometry_of_the_series(
    patients: Path, make_model: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    times = predict(patients, tmp_path / "out", make_model(), ON_CPU)
    assert {one.case: one.error for one in times if one.case != "p3"} == {"ct": None, "p2.a": None}
    failed = next(one.error for one in times if one.case == "p3")
    assert failed is not None
    assert "p3 is not one regular volume: 1.2.6_2.dcm and 1.2.6_3.dcm lie 2 mm apart where slices lie 1 mm" in failed
    assert sorted(path.name for path in (tmp_path / "out").glob("*.nii.gz")) == ["ct.nii.gz", "p2.a.nii.gz"]
    written = sitk.ReadImage(str(tmp_path / "out" / "p2.a.nii.gz"))
    assert (written.GetSize(), written.GetSpacing()) == ((8, 8, 8), (1.0, 1.0, 2.5))
    assert written.GetOrigin() == (5.0, -3.0, 0.0)
    assert "left out" not in capsys.readouterr().err
    rows = (tmp_path / "out" / "statistics.csv").read_text().splitlines()
    assert {row.split(",")[0] for row in rows[1:]} == {"ct", "p2.a"}


def test_images_beside_series_are_named(
    patients: Path, make_model: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    series = patients / "p2.a"
    for name in ("other.nii", "notes.txt"):
        (series.parent / name).touch()
    predict(series.parent, tmp_path / "out", make_model(), PredictSettings(device="cpu", keep_existing=True))
    said = capsys.readouterr().err
    assert f"note: left out of {series.parent}, where DICOM series are taken: other.nii" in said
    assert "notes.txt" not in said


def test_as_the_same_image_in_a_file(patients: Path, make_model: Callable[..., Path], tmp_path: Path) -> None:
    model, images = make_model(), tmp_path / "images"
    images.mkdir()
    series_to_file(patients / "p2.a", images / "p2.a_0000.nii.gz")
    predict(images, tmp_path / "of file", model, ON_CPU)
    predict(patients / "p2.a", tmp_path / "of series", model, ON_CPU)
    one, other = (tmp_path / f"of {kind}" / "p2.a.nii.gz" for kind in ("file", "series"))
    assert one.read_bytes() == other.read_bytes()


def test_a_series_has_one_channel(
    patients: Path, make_model: Callable[..., Path], plans: dict[str, Any], dataset: dict[str, Any], tmp_path: Path
) -> None:
    plans["foreground_intensity_properties_per_channel"]["1"] = {}
    plans["configurations"]["3d_fullres"].update(
        normalization_schemes=["ZScoreNormalization"] * 2, use_mask_for_norm=[False] * 2
    )
    dataset["channel_names"] = {"0": "T1", "1": "T2"}
    (times,) = predict(patients / "p2.a", tmp_path / "out", make_model(plans, dataset), ON_CPU)
    assert times.error is not None
    assert f"image {patients / 'p2.a'} has 1 channels where the network takes 2: T1, T2" in times.error


def test_names_of_cases(patients: Path, volumes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = find_cases(patients, tmp_path / "out", ".nii.gz")
    assert [(case.name, case.images) for case in cases] == [
        ("ct", (patients / "p1" / "study" / "ct",)),
        ("p2.a", (patients / "p2.a",)),
        ("p3", (patients / "p3",)),
    ]
    monkeypatch.chdir(patients / "p3")
    assert [case.name for case in find_cases(Path(), tmp_path / "out", ".nii.gz")] == ["p3"]
    volumes.series(patients / "p4" / "ct", "1.2.7")
    with pytest.raises(ValueError, match=r"the series p1/study/ct and p4/ct in .* would be one file: rename one"):
        find_cases(patients, tmp_path / "out", ".nii.gz")


def test_images_go_before_series(patients: Path, tmp_path: Path) -> None:
    (patients / "a_0000.nii.gz").touch()
    assert [case.name for case in find_cases(patients, tmp_path / "out", ".nii.gz")] == ["a"]


def test_an_ending_that_itk_does_not_write(patients: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"p2.a can't be made an image with the ending .npy, which the model reads; co"
    ):
        series_to_file(patients / "p2.a", tmp_path / "a.npy")
