"""Label maps made class by class are nnU-Net's own with PyTorch's resampling, in less memory."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from scd_plugin.nnunet.model.recipe import NnunetRecipe
from scd_plugin.nnunet.predict import class_by_class
from scd_plugin.nnunet.predict.class_by_class import can_go_class_by_class, label_map, labels_class_by_class
from scd_plugin.nnunet.predict.resampling import torch_resampling

CPU = torch.device("cpu")


def known_of(recipe: NnunetRecipe, size: tuple[int, ...], spacing: list[float]) -> dict[str, Any]:
    """As nnU-Net's preprocessing says it, of an image with a border that was cut off."""
    planned = recipe.configuration.spacing
    planned = planned if len(planned) == 3 else [spacing[0], *planned]
    shape = tuple(round(edge * there / own) for edge, there, own in zip(size, planned, spacing))
    return {
        "spacing": [spacing[axis] for axis in recipe.plans.transpose_backward],
        "shape_before_cropping": tuple(edge + 3 for edge in shape),
        "shape_after_cropping_and_before_resampling": shape,
        "bbox_used_for_cropping": [[1, edge + 1] for edge in shape],
    }


@pytest.mark.parametrize("spacing", [[0.9, 1.5, 1.2], [5.5, 0.9, 1.2]], ids=["isotropic", "thick slices"])
@pytest.mark.parametrize("regions", [False, True], ids=["classes", "regions"])
def test_equal_to_nnunets(plans: dict[str, Any], dataset: dict[str, Any], spacing: list[float], regions: bool) -> None:
    if regions:
        dataset = {**dataset, "labels": {"background": 0, "all": [1, 2], "inner": [2], "rim": [1]}}
        dataset["regions_class_order"] = [1, 2, 3]
    recipe = NnunetRecipe(torch_resampling(plans, "3d_fullres"), dataset, "3d_fullres")
    assert can_go_class_by_class(recipe)
    size = (3, 12, 14, 10)
    logits = np.random.default_rng(0).normal(scale=3, size=size).astype(np.float16)
    # equal logits, of which the first class wins, and probabilities of just a half
    logits[:, :4] = 0
    known = known_of(recipe, size[1:], spacing)
    expected = recipe.restore(logits.copy(), known)
    found = label_map(torch.from_numpy(logits), recipe, known, CPU)
    assert found.dtype == expected.dtype == np.uint8
    assert len(np.unique(found)) > 2
    np.testing.assert_array_equal(found, expected)


def test_flat_configuration(plans: dict[str, Any], dataset: dict[str, Any]) -> None:
    recipe = NnunetRecipe(torch_resampling(plans, "2d"), dataset, "2d")
    logits = np.random.default_rng(0).normal(scale=3, size=(3, 5, 14, 10)).astype(np.float16)
    known = known_of(recipe, logits.shape[1:], [4.0, 0.9, 1.2])
    expected = recipe.restore(logits.copy(), known)
    np.testing.assert_array_equal(label_map(torch.from_numpy(logits), recipe, known, CPU), expected)


def test_one_class_is_there_at_a_time() -> None:
    seen: list[tuple[int, ...]] = []

    def twice(one: Tensor) -> Tensor:
        seen.append(tuple(one.shape))
        return torch.nn.functional.interpolate(one[None], scale_factor=2)[0]

    logits = torch.randn(7, 2, 3, 4)
    labels = labels_class_by_class(logits, twice)
    assert seen == [(1, 2, 3, 4)] * 7
    assert labels.shape == (4, 6, 8)
    # classes that are nowhere are not resampled
    logits[3] = logits[0]
    logits[5] = logits[0] - 1
    seen.clear()
    labels = labels_class_by_class(logits, twice)
    assert seen == [(1, 2, 3, 4)] * 5
    assert not set(labels.unique().tolist()) & {3, 5}


@pytest.mark.parametrize("order", [None, list(range(1, 9))], ids=["classes", "regions"])
def test_passing_over_changes_nothing(order: list[int] | None) -> None:
    torch.manual_seed(0)
    logits = torch.randn(8, 5, 6, 7)
    # everywhere a little behind, and in no voxel inside of the region
    logits[2], logits[4] = logits[0] - 1e-6, logits[0]
    logits[6] = -logits[0].abs()

    def finer(one: Tensor) -> Tensor:
        return torch.nn.functional.interpolate(one[None], size=(11, 13, 9), mode="trilinear")[0]

    values = finer(logits)
    if order is None:
        expected = values.argmax(0)
    else:
        expected = torch.zeros(values.shape[1:], dtype=torch.int64)
        for region, label in enumerate(order):
            expected[torch.sigmoid(values[region]) > 0.5] = label
    assert torch.equal(labels_class_by_class(logits, finer, order).long(), expected)


def test_memory_does_not_suffice(
    recipe: NnunetRecipe, plans: dict[str, Any], dataset: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = NnunetRecipe(torch_resampling(plans, "3d_fullres"), dataset, "3d_fullres")
    logits = torch.randn(3, 6, 7, 5)
    known = known_of(recipe, (6, 7, 5), [0.9, 1.5, 1.2])
    expected = label_map(logits, recipe, known, CPU)
    really, failed = labels_class_by_class, []

    def once(*arguments: Any) -> Tensor:
        if not failed:
            failed.append(True)
            raise torch.OutOfMemoryError
        return really(*arguments)

    monkeypatch.setattr(class_by_class, "labels_class_by_class", once)
    np.testing.assert_array_equal(label_map(logits, recipe, known, CPU), expected)
    assert failed


def test_other_resamplings_stay_nnunets(recipe: NnunetRecipe, plans: dict[str, Any], dataset: dict[str, Any]) -> None:
    assert not can_go_class_by_class(recipe)
    none = deepcopy(plans)
    none["configurations"]["3d_fullres"]["resampling_fn_probabilities"] = "no_resampling_hack"
    none["configurations"]["3d_fullres"]["resampling_fn_probabilities_kwargs"] = {}
    assert not can_go_class_by_class(NnunetRecipe(none, dataset, "3d_fullres"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda(plans: dict[str, Any], dataset: dict[str, Any]) -> None:
    recipe = NnunetRecipe(torch_resampling(plans, "3d_fullres"), dataset, "3d_fullres")
    logits = torch.randn(3, 12, 14, 10, generator=torch.Generator().manual_seed(0))
    known = known_of(recipe, (12, 14, 10), [0.9, 1.5, 1.2])
    there, here = (label_map(logits, recipe, known, torch.device(name)) for name in ("cuda", "cpu"))
    assert (there != here).mean() < 1e-3
