from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pytest

from scd_plugin.nnunet.model.recipe import NnunetRecipe
from scd_plugin.nnunet.predict.resampling import torch_resampling

KEY = "resampling_fn_probabilities"
# where two classes are nearer to each other than float16 can tell, either may win
NEAR_TIE = 2**-7


def restored(recipe: NnunetRecipe, logits: np.ndarray, spacing: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Label map and the logits that it was made of, resampled by the recipe's function."""
    shape = tuple(
        round(size * planned / own)
        for size, planned, own in zip(logits.shape[1:], recipe.configuration.spacing, spacing)
    )
    known = {
        "spacing": [spacing[axis] for axis in recipe.plans.transpose_backward],
        "shape_before_cropping": shape,
        "shape_after_cropping_and_before_resampling": shape,
        "bbox_used_for_cropping": [[0, size] for size in shape],
    }
    resampled = recipe.configuration.resampling_fn_probabilities(logits, shape, recipe.configuration.spacing, spacing)
    return recipe.restore(logits, known), np.asarray(resampled, dtype=np.float32)


@pytest.mark.parametrize("spacing", [[0.9, 1.5, 1.2], [5.5, 0.9, 1.2]], ids=["isotropic", "thick slices"])
def test_label_maps_agree_away_from_ties(
    plans: dict[str, Any], dataset: dict[str, Any], recipe: NnunetRecipe, spacing: list[float]
) -> None:
    changed = NnunetRecipe(torch_resampling(plans, "3d_fullres"), dataset, "3d_fullres")
    assert changed.configuration.configuration[KEY] == "resample_torch_fornnunet"
    logits = np.random.default_rng(0).normal(scale=3, size=(3, 12, 14, 10)).astype(np.float16)
    by_nnunet, values = restored(recipe, logits, spacing)
    by_torch, others = restored(changed, logits, spacing)
    assert by_torch.shape == by_nnunet.shape != logits.shape[1:]
    assert by_torch.dtype == by_nnunet.dtype
    np.testing.assert_allclose(others, values, atol=2e-2, rtol=0)
    first, second = np.sort(values, axis=0)[:-3:-1]
    clear = (first - second > NEAR_TIE).transpose(recipe.plans.transpose_backward)
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(by_torch[clear], by_nnunet[clear])


def test_nothing_else_changes(plans: dict[str, Any]) -> None:
    before = deepcopy(plans)
    changed = torch_resampling(plans, "2d")
    assert plans == before
    arguments = changed["configurations"]["2d"].pop(f"{KEY}_kwargs")
    assert changed["configurations"]["2d"].pop(KEY) == "resample_torch_fornnunet"
    assert changed == before
    assert arguments["force_separate_z"] is None
    assert arguments["is_seg"] is False


@pytest.mark.parametrize("function", ["no_resampling_hack", "resample_torch_fornnunet"])
def test_nothing_to_change(plans: dict[str, Any], function: str) -> None:
    plans["configurations"]["3d_fullres"][KEY] = function
    assert torch_resampling(plans, "3d_fullres") is plans


@pytest.mark.parametrize(
    ("arguments", "orders"),
    [({"order": 3}, r"3 \(order_z 0\)"), ({"order": 1, "order_z": 1}, r"1 \(order_z 1\)"), ({}, "3")],
)
def test_refused(plans: dict[str, Any], arguments: dict[str, Any], orders: str) -> None:
    plans["configurations"]["3d_fullres"][f"{KEY}_kwargs"] = arguments
    with pytest.raises(
        ValueError, match=rf"plans of this model resample logits with order {orders}.*resampling nnunet"
    ):
        torch_resampling(plans, "3d_fullres")
