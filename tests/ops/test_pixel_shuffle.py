from __future__ import annotations

from math import prod

import pytest
import torch
from monai.networks.utils import pixelshuffle, pixelunshuffle

from scd_plugin.ops.pixel_shuffle import pixel_shuffle, pixel_unshuffle


@pytest.mark.parametrize("factor", [1, 2, 3])
@pytest.mark.parametrize("axes", [2, 3])
def test_with_one_factor_they_are_monais(axes: int, factor: int) -> None:
    x = torch.randn(2, 2 * factor**axes, *[factor * size for size in (2, 1, 3)[:axes]])
    assert torch.equal(pixel_shuffle(x, [factor] * axes), pixelshuffle(x, axes, factor))
    assert torch.equal(pixel_unshuffle(x, [factor] * axes), pixelunshuffle(x, axes, factor))


def test_voxels_and_where_they_go() -> None:
    x = torch.arange(2 * 2 * 6).reshape(1, 2, 2, 6)
    folded = pixel_unshuffle(x, [1, 3])
    assert folded[0, :, 1, 0].tolist() == [6, 7, 8, 18, 19, 20]
    assert torch.equal(folded[0, 1], x[0, 0, :, 1::3])
    assert torch.equal(folded[0, 5], x[0, 1, :, 2::3])


@pytest.mark.parametrize("factors", [[1, 2, 2], [2, 1, 3], [1, 1, 1], [4, 2]], ids=str)
def test_they_undo_each_other(factors: list[int]) -> None:
    x = torch.randn(2, 3, *[2 * factor for factor in factors])
    folded = pixel_unshuffle(x, factors)
    assert folded.shape == (2, 3 * prod(factors), *[2] * len(factors))
    assert torch.equal(pixel_shuffle(folded, factors), x)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_values_do_not_depend_on_the_layout(layout: torch.memory_format) -> None:
    x = torch.randn(2, 8, 2, 4, 6)
    assert torch.equal(pixel_shuffle(x.contiguous(memory_format=layout), [2, 2, 2]), pixelshuffle(x, 3, 2))
    assert torch.equal(pixel_unshuffle(x.contiguous(memory_format=layout), [1, 2, 2]), pixel_unshuffle(x, [1, 2, 2]))


def test_sizes_that_do_not_divide() -> None:
    with pytest.raises(ValueError, match=r"size \[4, 5\] must be a multiple of factors \[2, 2\] on each axis"):
        pixel_unshuffle(torch.zeros(1, 1, 4, 5), [2, 2])
    with pytest.raises(ValueError, match=r"multiple of 4, the voxels of a cell with factors \[2, 2\]; got 6"):
        pixel_shuffle(torch.zeros(1, 6, 4, 5), [2, 2])


@pytest.mark.parametrize("move", [pixel_shuffle, pixel_unshuffle])
def test_a_factor_for_each_axis(move: object) -> None:
    with pytest.raises(ValueError, match=r"factors must be one for each axis .*; got \[2, 2\] for \[1, 8, 2, 2, 2\]"):
        move(torch.zeros(1, 8, 2, 2, 2), [2, 2])  # type: ignore[operator]
