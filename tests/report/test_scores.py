"""Scores of shapes whose agreement is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.metrics import compute_dice, compute_hausdorff_distance, compute_surface_dice
from scipy.ndimage import gaussian_filter

from scd_plugin.report.scores import Scores, class_scores, surface_axes


def cube(start: int, shape: tuple[int, int, int] = (12, 12, 12)) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[3:7, 3:7, start : start + 4] = True
    return mask


def test_equal_shapes() -> None:
    assert class_scores(cube(3), cube(3), (1, 1, 1), 1.0) == (1.0, 1.0, 0.0)


@pytest.mark.parametrize(("spacing", "far"), [((1, 1, 1), 2.0), ((1, 1, 3), 6.0), ((3, 3, 1), 2.0)])
def test_distance_is_in_mm_along_each_axis(spacing: tuple[float, ...], far: float) -> None:
    scores = class_scores(cube(3), cube(5), spacing, far)
    assert scores.dice == pytest.approx(0.5)
    assert scores.hd95 == pytest.approx(far)
    assert scores.surface_dice == 1.0
    # a little less is not enough for all of the surface
    assert 0 < class_scores(cube(3), cube(5), spacing, far - 0.1).surface_dice < 1  # type: ignore[operator]


@pytest.mark.parametrize("at", [0, 8])
def test_a_shape_at_the_border_is_scored_as_one_inside(at: int) -> None:
    scores = class_scores(cube(at), cube(at), (1, 1, 1), 1.0)
    assert scores == (1.0, 1.0, 0.0)


def test_absent_classes() -> None:
    nothing = np.zeros((12, 12, 12), dtype=bool)
    assert class_scores(nothing, nothing, (1, 1, 1), 1.0) == Scores(None, None, None)
    assert class_scores(cube(3), nothing, (1, 1, 1), 1.0) == Scores(0.0, 0.0, None)
    assert class_scores(nothing, cube(3), (1, 1, 1), 1.0) == Scores(0.0, 0.0, None)


def test_one_slice_has_no_surface_across_it() -> None:
    one, other = (cube(start)[4:5] for start in (3, 5))
    assert surface_axes(one.shape) == [1, 2]
    # 12 of the 16 voxels are outline, and 4 of either lie on the other's; as a volume all would be
    assert class_scores(one, other, (5, 1, 1), 0.5, axes=[1, 2]) == pytest.approx((0.5, 1 / 3, 2.0))
    assert class_scores(one, one, (5, 1, 1), 0.5, axes=[1, 2]) == (1.0, 1.0, 0.0)
    # a class of one slice in a volume is surface everywhere: 8 of its 16 voxels lie on the other
    assert class_scores(one, other, (5, 1, 1), 0.5) == pytest.approx((0.5, 0.5, 2.0))


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((4, 5, 6), [0, 1, 2]), ((4, 1, 6), [0, 2]), ((1, 1, 6), [1, 2]), ((4, 1, 1), [0, 2]), ((1, 4, 1), [1, 2])],
)
def test_axes_with_surfaces(shape: tuple[int, ...], axes: list[int]) -> None:
    assert surface_axes(shape) == axes


def test_a_single_voxel() -> None:
    mask = np.zeros((1, 1, 1), dtype=bool)
    mask[0, 0, 0] = True
    assert class_scores(mask, mask, (1, 1, 1), 1.0, axes=surface_axes(mask.shape)) == (1.0, 1.0, 0.0)


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
@pytest.mark.parametrize("seed", range(3))
def test_scores_are_those_of_monai(seed: int) -> None:
    rng = np.random.default_rng(seed)
    masks = [gaussian_filter(rng.normal(size=(14, 18, 16)), 2) > 0.05 for _ in range(2)]
    spacing = rng.uniform(0.5, 4, 3).tolist()
    padded = [torch.from_numpy(np.pad(mask, 1))[None, None].float() for mask in masks]
    expected = (
        compute_dice(*padded, include_background=True),
        compute_surface_dice(*padded, class_thresholds=[2.0], include_background=True, spacing=spacing),
        compute_hausdorff_distance(*padded, include_background=True, percentile=95, spacing=spacing),
    )
    assert class_scores(*masks, spacing, 2.0) == pytest.approx([float(one) for one in expected])
