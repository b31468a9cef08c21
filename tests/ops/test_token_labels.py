from __future__ import annotations

import pytest
import torch

from scd_plugin.ops.token_labels import token_labels


def test_by_hand() -> None:
    label = torch.zeros(1, 1, 4, 4)
    label[0, 0, :2, 2:] = 3
    label[0, 0, 2, 0] = 1
    label[0, 0, 2:, 2:] = torch.tensor([[1, 2], [1, 1]])
    found = token_labels(label, (2, 2))
    assert found.mixed.tolist() == [[False, False, True, True]]
    assert found.foreground.tolist() == [[False, True, True, True]]
    assert found.share.tolist() == [[0, 1, 0.25, 1]]
    assert found.labelled.all()


def test_3d_agrees_with_a_loop() -> None:
    torch.manual_seed(0)
    label = (torch.rand(2, 1, 4, 6, 8) > 0.8).long() * torch.randint(1, 4, (2, 1, 4, 6, 8))
    known = torch.rand(2, 1, 4, 6, 8) > 0.5
    found = token_labels(label, (2, 3, 2), known=known)
    for sample in range(2):
        for number in range(12):
            i, j, k = number // 6, number // 2 % 3, number % 2
            at = (sample, 0, slice(2 * i, 2 * i + 2), slice(2 * j, 2 * j + 2), slice(4 * k, 4 * k + 4))
            values = label[at][known[at]]
            assert found.mixed[sample, number] == (values.unique().numel() > 1)
            assert found.foreground[sample, number] == (values > 0).any()
            assert found.share[sample, number].item() == pytest.approx((values > 0).float().mean().item())
            assert found.inside[sample, number].item() == pytest.approx((values > 0).sum().item() / 16)


def test_regions_that_overlap() -> None:
    regions = torch.zeros(1, 2, 2, 4)
    regions[0, 0] = 1
    regions[0, 1, 0, 3] = 1
    found = token_labels(regions, (1, 2), regions=True)
    # the first region is everywhere; the second has its boundary in the second token
    assert found.mixed.tolist() == [[False, True]]
    assert found.foreground.all()
    assert found.share.tolist() == [[1, 1]]


def test_nothing_is_labelled() -> None:
    label = torch.full((1, 1, 4, 4), 5)
    found = token_labels(label, (2, 2), known=torch.zeros(1, 1, 4, 4, dtype=torch.bool))
    assert not found.labelled.any()
    assert not found.mixed.any()
    assert not found.foreground.any()
    assert found.share.tolist() == [[0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("shape", "grid", "message"),
    [
        ((1, 1, 5, 4), (2, 2), r"multiple of the token grid \(2, 2\) on each axis; got \(5, 4\)"),
        ((1, 1, 4, 4), (2, 2, 2), r"multiple of the token grid \(2, 2, 2\)"),
        ((1, 3, 4, 4), (2, 2), "one channel unless its channels are regions; got 3"),
    ],
)
def test_refused(shape: tuple[int, ...], grid: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        token_labels(torch.zeros(shape), grid)
