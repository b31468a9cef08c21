from typing import Any

import numpy as np
import pytest

from scd_plugin.ops.grid import per_axis, stage_strides, token_grid


def test_per_axis() -> None:
    assert per_axis(8, 3, name="patch_size") == (8, 8, 8)
    assert per_axis([4, 8], 2, name="patch_size") == (4, 8)


@pytest.mark.parametrize("value", [np.int64(8), 8.0, np.array([8, 8, 8]), (8, 8.0, np.int32(8))], ids=str)
def test_per_axis_gives_plain_ints(value: Any) -> None:
    sizes = per_axis(value, 3, name="patch_size")
    assert sizes == (8, 8, 8)
    assert [type(size) for size in sizes] == [int] * 3


@pytest.mark.parametrize(
    "value", [0, (8, 8), (8, -1, 8), (8, 8.5, 8), 8.5, float("inf"), "8", "888", None, [[8, 8, 8]]], ids=str
)
def test_per_axis_refuses(value: Any) -> None:
    with pytest.raises(ValueError, match=r"patch_size must be one positive int, or 3 of them .*got"):
        per_axis(value, 3, name="patch_size")


def test_token_grid() -> None:
    assert token_grid((40, 56, 40), (8, 8, 8)) == (5, 7, 5)


def test_token_grid_names_what_would_fit() -> None:
    expected = r"40 is not a multiple of 16.* token patch that divides 40 is 20; .*token patch of 16 are 32 or 48"
    with pytest.raises(ValueError, match=expected):
        token_grid((32, 40, 32), (16, 16, 16))
    with pytest.raises(ValueError, match="nearest image sizes for a token patch of 8 are 8"):
        token_grid((5, 8), (8, 8))


@pytest.mark.parametrize(
    ("img_size", "patch_size", "nearest"),
    [((31, 31), (2, 2), 31), ((31, 32), (2, 8), 1), ((31, 32), (2, 1), 31), ((1, 32), (2, 8), 1), ((1, 7), (1, 2), 7)],
)
def test_single_voxels_are_offered_only_beside_longer_axes(
    img_size: tuple[int, ...], patch_size: tuple[int, ...], nearest: int
) -> None:
    with pytest.raises(ValueError, match=rf"nearest token patch that divides \d+ is {nearest};"):
        token_grid(img_size, patch_size)


@pytest.mark.parametrize(
    ("patch", "strides"),
    [
        ((8, 8, 8), [(2, 2, 2)] * 3),
        ((4, 8, 8), [(1, 2, 2), (2, 2, 2), (2, 2, 2)]),
        ((1, 8, 8), [(1, 2, 2)] * 3),
        ((6, 4), [(2, 2), (3, 2)]),
        ((16, 16), [(2, 2)] * 4),
    ],
)
def test_stage_strides(patch: tuple[int, ...], strides: list[tuple[int, ...]]) -> None:
    assert stage_strides(patch) == strides


def test_single_voxel_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match=r"larger than 1 on at least one axis; got \(1, 1, 1\)"):
        stage_strides((1, 1, 1))
