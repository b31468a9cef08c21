"""Numbers of each class: what they are in world coordinates, for regions, absent classes and flat images."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from scd_plugin.nnunet.predict.run import predict
from scd_plugin.nnunet.predict.settings import PredictSettings
from scd_plugin.nnunet.predict.statistics import case_statistics, class_values, index_to_world, write_statistics

DIRECTION = (-1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0)
GEOMETRY = {"spacing": (0.5, 2.0, 4.0), "origin": (10.0, 20.0, 30.0), "direction": DIRECTION}


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_class_and_an_absent_one() -> None:
    label_map = np.zeros((4, 5, 6), dtype=np.uint8)
    label_map[1:3, 2, 1:5] = 2
    image = np.stack([np.full(label_map.shape, 7.0), np.arange(label_map.size).reshape(label_map.shape)])
    rows = case_statistics(label_map, image, {"liver": {1}, "spleen": {2}}, ["CT", "MR"], {"sitk_stuff": GEOMETRY})
    assert rows[0] == {"class": "liver", "voxels": 0}
    spleen = rows[1]
    # x from 1 to 4, y 2, z 1 and 2; x is turned round, y and z are swapped
    assert {name: spleen[name] for name in spleen if "centroid" in name} == {
        "centroid_x_mm": 10 - 0.5 * 2.5, "centroid_y_mm": 20 + 4 * 1.5, "centroid_z_mm": 30 + 2 * 2,
    }  # fmt: skip
    assert (spleen["voxels"], spleen["volume_ml"]) == (8, 0.032)
    assert (spleen["mean_CT"], spleen["mean_MR"]) == (7.0, image[1][label_map == 2].mean())
    assert [spleen[f"{end}_voxel_{axis}"] for axis in "xyz" for end in ("first", "last")] == [1, 4, 2, 2, 1, 2]


def test_regions_count_what_is_painted_over_them() -> None:
    labels: dict[str, Any] = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3, "ignore": 4}
    assert class_values(labels, [1, 2, 3]) == {"whole": {1, 2, 3}, "core": {2, 3}, "enhancing": {3}}
    assert class_values({"background": 0, "a": 1, "ignore": 2}, None) == {"a": {1}}


def test_world_of_nnunets_readers() -> None:
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    affine[:3, 3] = 5, 6, 7
    nibabel = {"nibabel_stuff": {"original_affine": affine}, "spacing": [4, 3, 2]}
    assert (index_to_world(nibabel) @ [1, 1, 1, 1]).tolist() == [-7, -9, 11, 1]
    turned = {"nibabel_stuff": {"original_affine": affine, "reoriented_affine": np.eye(4)}}
    assert (index_to_world(turned) @ [1, 2, 3, 1]).tolist() == [-1, -2, 3, 1]
    # TIFF and PNG
    assert (index_to_world({"spacing": (3.0, 2.0, 1.0)}) @ [1, 1, 1, 1]).tolist() == [1, 2, 3, 1]


def test_flat_images_have_no_volume() -> None:
    known = {"sitk_stuff": {"spacing": (0.5, 2.0), "origin": (1.0, 2.0), "direction": (1.0, 0.0, 0.0, 1.0)}}
    label_map = np.ones((1, 2, 2), dtype=np.uint8)
    (row,) = case_statistics(label_map, np.zeros((1, 1, 2, 2)), {"a": {1}}, ["MR"], known)
    assert row["volume_ml"] == ""
    assert (row["centroid_x_mm"], row["centroid_y_mm"]) == (1.25, 3.0)


def test_channels_of_one_name_are_told_apart(tmp_path: Path) -> None:
    label_map = np.ones((2, 2, 2), dtype=np.uint8)
    image = np.stack([np.full(label_map.shape, value) for value in (1.0, 2.0, 3.0)])
    channels = ["CT", "MR", "CT"]
    rows = case_statistics(label_map, image, {"a": {1}}, channels, {"sitk_stuff": GEOMETRY})
    write_statistics(tmp_path / "s.csv", [{"case": "a", **row} for row in rows], channels)
    (found,) = read(tmp_path / "s.csv")
    means = {name: value for name, value in found.items() if "mean" in name}
    assert means == {"mean_CT_0000": "1.0", "mean_MR": "2.0", "mean_CT_0002": "3.0"}


def test_names_that_csv_must_quote(tmp_path: Path) -> None:
    rows = [{"case": "b", "class": 'left, "upper"', "voxels": 0}, {"case": "a", "class": "x", "voxels": 1}]
    write_statistics(tmp_path / "s.csv", rows, ["CT"])
    write_statistics(tmp_path / "s.csv", [{"case": "a", "class": "x", "voxels": 5}], ["CT"], cases_to_keep=["a", "b"])
    found = read(tmp_path / "s.csv")
    assert [(row["case"], row["class"], row["voxels"]) for row in found] == [
        ("a", "x", "5"),
        ("b", 'left, "upper"', "0"),
    ]
    assert list(found[0])[:7] == [
        "case", "class", "voxels", "volume_ml", "centroid_x_mm", "centroid_y_mm", "centroid_z_mm",
    ]  # fmt: skip


@pytest.mark.filterwarnings("ignore")
def test_beside_the_label_maps(
    make_model: Callable[..., Path], make_images: Callable[..., Path], tmp_path: Path
) -> None:
    model, images, output = make_model(mirror_axes=None), make_images(), tmp_path / "out"
    predict(images, output, model, PredictSettings(device="cpu", statistics=True))
    rows = read(output / "statistics.csv")
    assert [row["case"] for row in rows] == sorted(row["case"] for row in rows)
    assert {row["case"] for row in rows} == {"a", "b"}
    label_map = sitk.ReadImage(str(output / "a.nii.gz"))
    shape = sitk.LabelShapeStatisticsImageFilter()
    shape.Execute(label_map)
    assert shape.GetLabels()
    names = {row["class"]: row for row in rows if row["case"] == "a"}
    for number, row in zip((1, 2), names.values()):
        if number not in shape.GetLabels():
            assert row["voxels"] == "0"
            continue
        assert int(row["voxels"]) == shape.GetNumberOfPixels(number)
        assert float(row["volume_ml"]) == pytest.approx(shape.GetPhysicalSize(number) / 1000, rel=1e-4)
        centre = [float(row[f"centroid_{axis}_mm"]) for axis in "xyz"]
        assert centre == pytest.approx(shape.GetCentroid(number), abs=2e-3)
    # only cases that are predicted now are replaced
    (output / "b.nii.gz").unlink()
    predict(images, output, model, PredictSettings(device="cpu", statistics=True, keep_existing=True))
    assert read(output / "statistics.csv") == rows
    # one image to a file
    predict(images / "a_0000.nii.gz", tmp_path / "one.nii.gz", model, PredictSettings(device="cpu", statistics=True))
    assert {row["case"] for row in read(tmp_path / "one_statistics.csv")} == {"a"}
