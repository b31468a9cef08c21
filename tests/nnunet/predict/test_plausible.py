"""Images that are unlike those of the training are pointed out, and predicted all the same."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from scd_plugin.nnunet.model.recipe import NnunetRecipe
from scd_plugin.nnunet.predict.plausible import doubts

SPACING = (2.5, 1.1, 0.9)


@pytest.fixture
def ct() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(40, 300, (1, 12, 14, 16)).round()


def test_an_image_of_the_same_kind(recipe: NnunetRecipe, ct: np.ndarray) -> None:
    assert doubts(ct, SPACING, recipe) == []
    # smooth, and of air alone beside the body
    assert doubts(np.full_like(ct, -1000) + 1500 * (ct > 0) + ct / 1000, SPACING, recipe) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda ct: (ct > 0) * 2.0, "channel CT has no more than 12 values, all whole: is it a label map?"),
        (
            lambda ct: ct / 3000,
            "channel CT lies between -0.2.* the training's organs had -80 to 160: is it in the same",
        ),
        (lambda ct: ct + 5000, "channel CT lies between 4.*: is it in the same unit"),
        (lambda ct: np.full_like(ct, 7.5), "channel CT has the value 7.5 everywhere: is it the right file?"),
    ],
)
def test_intensities(
    recipe: NnunetRecipe, ct: np.ndarray, change: Callable[[np.ndarray], np.ndarray], said: str
) -> None:
    (doubt,) = doubts(change(ct), SPACING, recipe)
    with pytest.raises(ValueError, match=f"^{said}"):
        raise ValueError(doubt)


def test_only_ct_has_a_unit(plans: dict[str, Any], dataset: dict[str, Any], ct: np.ndarray) -> None:
    plans["configurations"]["3d_fullres"]["normalization_schemes"] = ["ZScoreNormalization"]
    assert doubts(ct / 3000, SPACING, NnunetRecipe(plans, dataset, "3d_fullres")) == []


@pytest.mark.parametrize(
    ("spacing", "said"),
    [
        ((2.5, 1.1, 0.9), []),
        ((12.0, 1.1, 0.9), ["its voxels of 0.9 x 1.1 x 12 mm are far from the training's, 1 x 1.3 x 2.4 mm in the mi"]),
        ((2.5, 0.1, 0.9), ["its voxels of 0.9 x 0.1 x 2.5 mm are far from the training's, 1 x 1.3 x 2.4 mm in the mi"]),
        # a flat image
        ((999.0, 1.1, 0.9), []),
    ],
)
def test_spacing(
    plans: dict[str, Any], dataset: dict[str, Any], ct: np.ndarray, spacing: tuple[float, ...], said: list[str]
) -> None:
    # plans turn axes
    plans = {**deepcopy(plans), "original_median_spacing_after_transp": [1.3, 2.4, 1.0]}
    found = doubts(ct, spacing, NnunetRecipe(plans, dataset, "3d_fullres"))
    assert [doubt[: len(one)] for doubt, one in zip(found, said)] == said
    assert len(found) == len(said)


def test_is_said_and_predicted(
    make_model: Callable[..., Path], make_images: Callable[..., Path], tmp_path: Path
) -> None:
    from typer.testing import CliRunner

    from scd_plugin.cli import app

    images, output = make_images(["a"]), tmp_path / "out"
    file = images / "a_0000.nii.gz"
    image = sitk.ReadImage(str(file))
    sitk.WriteImage(sitk.Cast(image > 100, sitk.sitkUInt8), str(file))
    words = [
        "predict",
        "-i",
        str(images),
        "-o",
        str(output),
        "-m",
        str(make_model(mirror_axes=None)),
        "--device",
        "cpu",
    ]
    result = CliRunner().invoke(app, words, terminal_width=300)
    assert result.exit_code == 0, result.output
    assert "note: a: channel CT has no more than 12 values, all whole: is it a label map?" in result.stderr
    assert (output / "a.nii.gz").is_file()
