"""Which planes are shown, and what is drawn in them."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from scd_plugin.report.cases import CaseFiles
from scd_plugin.report.colours import class_colours, hexadecimal
from scd_plugin.report.pictures import Panel, grey_window, largest_planes, planes
from scd_plugin.report.run import Run
from scd_plugin.report.volume import Volume

RUN = Run("", None, classes={"a": {1}, "b": {2}}, truth_classes={"a": {1}, "b": {2}})  # type: ignore[arg-type]
COLOURS = class_colours(RUN.classes)


def volume(voxels: np.ndarray, spacing: tuple[float, ...] = (1, 1, 1), **changes: bool) -> Volume:
    return Volume(voxels, spacing, np.eye(4), **changes)  # type: ignore[arg-type]


def pixels(panel: Panel) -> np.ndarray:
    image = Image.open(io.BytesIO(base64.b64decode(panel.uri.partition(",")[2])))
    assert image.size == (panel.width, panel.height)
    return np.asarray(image).astype(int)


def has(picture: np.ndarray, colour: tuple[int, int, int]) -> bool:
    # JPEG changes colours a little
    return bool((np.abs(picture - colour).max(axis=-1) < 40).any())


def block() -> np.ndarray:
    labels = np.zeros((20, 24, 16), np.uint8)
    labels[5:12, 6:18, 3:9] = 1
    labels[12:14, 6:8, 3:5] = 2
    return labels


def test_planes_with_most_labels() -> None:
    mask = np.zeros((4, 5, 6), bool)
    mask[1, 2, 3] = mask[1, 2, 4] = mask[3, 2, 4] = True
    assert largest_planes(mask) == [(0, 1), (1, 2), (2, 4)]
    assert largest_planes(np.zeros((4, 5, 6), bool)) == [(0, 2), (1, 2), (2, 3)]


@pytest.mark.parametrize(("shape", "axes"), [((1, 5, 6), [0]), ((5, 1, 6), [1]), ((1, 1, 6), [0]), ((1, 1, 1), [0])])
def test_planes_of_one_row_are_left_out(shape: tuple[int, ...], axes: list[int]) -> None:
    assert [axis for axis, _ in largest_planes(np.ones(shape, bool))] == axes


def test_outlines_have_the_colours_of_their_classes() -> None:
    image = volume(np.random.default_rng(0).normal(100, 5, (20, 24, 16)).astype(np.float32))
    only_a = np.where(block() == 1, 1, 0)
    files = CaseFiles(volume(block()), truth=volume(only_a), image=image)
    shown = planes(RUN, "case", files, COLOURS)
    assert [plane.title for plane in shown] == [
        "axial, slice 6 of 20",
        "coronal, slice 7 of 24",
        "sagittal, slice 4 of 16",
    ]
    prediction, truth = shown[1].panels
    assert (prediction.title, truth.title) == ("prediction", "truth")
    assert prediction.alt == "case, coronal, slice 7 of 24: image with outlines of the prediction: a, b"
    assert truth.alt.endswith("outlines of the truth: a")
    assert has(pixels(prediction), COLOURS["a"])
    assert has(pixels(prediction), COLOURS["b"])
    assert not has(pixels(truth), COLOURS["b"])
    # 16 x 20 voxels, heads up: the small block, which lies on top, is in the upper half
    picture = pixels(prediction)
    assert picture.shape == (320, 256, 3)
    rows = np.flatnonzero((np.abs(picture - COLOURS["b"]).max(axis=-1) < 40).any(axis=1))
    assert rows.max() < 160


def test_pictures_keep_proportions_in_mm() -> None:
    shown = planes(RUN, "case", CaseFiles(volume(block(), (4, 1, 1))), COLOURS)
    assert [(panel.width, panel.height) for plane in shown for panel in plane.panels] == [
        (213, 320),
        (64, 320),
        (96, 320),
    ]
    thin = planes(RUN, "case", CaseFiles(volume(block()[:2], (1, 40, 40))), COLOURS)
    assert thin[1].panels[0].height == 24
    assert "no image, outlines of the prediction: no class here" in thin[1].panels[0].alt


def test_a_flat_image_has_one_plane() -> None:
    (plane,) = planes(RUN, "case", CaseFiles(volume(block()[6:7], flat=True, oriented=False)), COLOURS)
    assert plane.title == "image"
    (plane,) = planes(RUN, "case", CaseFiles(volume(block()[6:7], oriented=False)), COLOURS)
    assert plane.title == "across z, slice 1 of 1"


def test_keep_map_has_the_colours_of_its_stages() -> None:
    run = Run(
        "", None, classes=RUN.classes, truth_classes=RUN.classes, stages=[("first", (255, 0, 0)), ("kept", (0, 0, 255))]
    )  # type: ignore[arg-type]
    keep = np.ones((20, 24, 16), np.uint8)
    keep[:, :, 8:] = 2
    keep[:, :3] = 0
    files = CaseFiles(volume(block()), keep_map=volume(keep))
    picture = pixels(planes(run, "case", files, COLOURS)[0].panels[1])
    # blended with the grey where there is no image, 48
    assert np.abs(picture[200, 20] - [162, 22, 22]).max() < 12
    assert np.abs(picture[200, 200] - [22, 22, 162]).max() < 12
    assert np.abs(picture[5, 20] - 48).max() < 12


def test_grey_values_are_those_around_the_labels() -> None:
    image = np.full((30, 30, 30), -1000.0)
    image[10:20, 10:20, 10:20] = np.linspace(0, 100, 1000).reshape(10, 10, 10)
    mask = np.zeros(image.shape, bool)
    assert grey_window(image, mask)[0] < -1000
    mask[14:16, 14:16, 14:16] = True
    low, high = grey_window(image, mask)
    assert -50 < low < 0
    assert 100 < high < 150


@pytest.mark.parametrize("value", [7.0, np.nan, np.inf])
def test_constant_and_broken_images_have_a_window(value: float) -> None:
    low, high = grey_window(np.full((4, 4, 4), value), np.ones((4, 4, 4), bool))
    assert high == low + 1
    files = CaseFiles(volume(np.ones((4, 4, 4), np.uint8)), image=volume(np.full((4, 4, 4), value)))
    assert len(planes(RUN, "case", files, COLOURS)) == 3


def test_colours_are_told_apart_and_none_is_grey() -> None:
    colours = class_colours(map(str, range(20)))
    assert colours["0"] == (31, 119, 180)
    assert len({*colours.values()}) == 18
    assert colours["18"] == colours["0"]
    assert all(max(colour) - min(colour) > 30 for colour in colours.values())
    assert hexadecimal((255, 0, 10)) == "#ff000a"
