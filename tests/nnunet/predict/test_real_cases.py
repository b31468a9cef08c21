"""What the options change on a real CT, with weights drawn at random: every class is near a tie with another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter

from scd_plugin.nnunet.model.recipe import NnunetRecipe
from scd_plugin.nnunet.predict.resampling import torch_resampling
from scd_plugin.nnunet.predict.run import predict
from scd_plugin.nnunet.predict.settings import PredictSettings

pytestmark = pytest.mark.slow

SPACING = 3.0
AIR = -1024


@pytest.fixture
def ct_plans(plans: dict[str, Any]) -> dict[str, Any]:
    """For abdominal CT at the images' own spacing, with windows for SCD."""
    plans.update(transpose_forward=[0, 1, 2], transpose_backward=[0, 1, 2])
    plans["foreground_intensity_properties_per_channel"]["0"] = {
        "mean": 50.0,
        "std": 100.0,
        "percentile_00_5": -200.0,
        "percentile_99_5": 300.0,
    }
    plans["configurations"]["3d_fullres"].update(spacing=[SPACING] * 3, patch_size=[16, 32, 32])
    return plans


@pytest.fixture
def ct(shared: Callable[[str], Path]) -> sitk.Image:
    return sitk.ReadImage(str(shared("data/totalsegmentator/example_ct_sm.nii.gz")))


def voxels(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


@pytest.mark.parametrize("trainer", ["nnUNetTrainer", "nnUNetTrainerSCD_demo"])
def test_empty_windows(
    make_model: Callable[..., Path],
    by_nnunet: Callable[..., Path],
    ct: sitk.Image,
    ct_plans: dict[str, Any],
    tmp_path: Path,
    trainer: str,
) -> None:
    """In a wide field of view, since this CT is cropped to the body."""
    (tmp_path / "images").mkdir()
    wide = sitk.ConstantPad(ct, [40, 0, 0], [40, 0, 0], AIR)
    sitk.WriteImage(wide, str(tmp_path / "images" / "ct_0000.nii.gz"))
    model = make_model(ct_plans, trainer=trainer, mirror_axes=None)
    (one,) = predict(tmp_path / "images", tmp_path / "ours", model, PredictSettings(device="cpu", skip_empty=True))
    assert one.windows == 3 * 6 * 12
    # at least the windows at the two sides
    assert 1 < one.windows_computed <= 3 * 6 * 10 + 1
    expected = by_nnunet(model, tmp_path / "images")
    assert len(np.unique(voxels(expected / "ct.nii.gz"))) > 1
    assert (tmp_path / "ours" / "ct.nii.gz").read_bytes() == (expected / "ct.nii.gz").read_bytes()


def test_batches(make_model: Callable[..., Path], ct: sitk.Image, ct_plans: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    sitk.WriteImage(ct, str(tmp_path / "images" / "ct_0000.nii.gz"))
    model = make_model(ct_plans, trainer="nnUNetTrainerSCD_demo", mirror_axes=None)
    label_maps = []
    for batch in (1, 4):
        output = tmp_path / f"batch_{batch}"
        predict(tmp_path / "images", output, model, PredictSettings(device="cpu", batch=batch))
        label_maps.append(voxels(output / "ct.nii.gz"))
    assert (label_maps[0] != label_maps[1]).mean() < 1e-3


def test_bfloat16(make_model: Callable[..., Path], ct: sitk.Image, ct_plans: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    sitk.WriteImage(ct, str(tmp_path / "images" / "ct_0000.nii.gz"))
    model = make_model(ct_plans, mirror_axes=None)
    label_maps = []
    for dtype in ("float32", "bfloat16"):
        predict(tmp_path / "images", tmp_path / dtype, model, PredictSettings(device="cpu", dtype=dtype))
        label_maps.append(voxels(tmp_path / dtype / "ct.nii.gz"))
    assert len(np.unique(label_maps[0])) > 1
    assert 0 < (label_maps[0] != label_maps[1]).mean() < 0.05


@pytest.mark.parametrize("spacing", [(1.5, 1.5, 1.5), (6.0, 1.5, 1.5)], ids=["isotropic", "thick slices"])
def test_torch_resampling(
    shared: Callable[[str], Path],
    ct: sitk.Image,
    ct_plans: dict[str, Any],
    dataset: dict[str, Any],
    spacing: tuple[float, ...],
) -> None:
    """Logits as a good network has them: clear but for the boundaries of the nine largest organs."""
    truth = voxels(shared("data/totalsegmentator/example_seg.nii.gz"))
    classes = [0, *np.argsort(np.bincount(truth.ravel())[1:])[::-1][:9] + 1]
    dataset["labels"] = {"background": 0, **{f"organ_{i}": i for i in range(1, 10)}}
    ct_plans["configurations"]["3d_fullres"]["spacing"] = spacing
    recipes = [
        NnunetRecipe(plans, dataset, "3d_fullres") for plans in (ct_plans, torch_resampling(ct_plans, "3d_fullres"))
    ]
    data, known = recipes[0].preprocess(sitk.GetArrayFromImage(ct)[None], {"spacing": [SPACING] * 3})
    assert known["shape_after_cropping_and_before_resampling"] == truth.shape
    nearest = [(np.arange(new) + 0.5) * old // new for old, new in zip(truth.shape, data.shape[1:])]
    planned = truth[np.ix_(*(index.astype(int) for index in nearest))]
    smooth = [gaussian_filter((planned == value).astype(np.float32), 1) for value in classes]
    logits = (10 * np.stack(smooth)).astype(np.float16)
    by_nnunet, by_torch = (recipe.restore(logits, dict(known)) for recipe in recipes)
    assert len(np.unique(by_nnunet)) == 10
    assert (by_nnunet != by_torch).mean() < 1e-4
