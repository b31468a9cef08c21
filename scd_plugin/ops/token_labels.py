"""What a token holds according to the labels: the teacher of scores, and what an audit counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["TokenLabels", "token_labels"]


class TokenLabels(NamedTuple):
    """Facts of each token of a batch, in the order of the grid; False where no voxel of it is labelled."""

    mixed: Tensor
    """(B, L), bool; it holds more than one class, or both sides of a region's boundary."""
    foreground: Tensor
    """(B, L), bool; it holds a voxel that is not background."""
    share: Tensor
    """(B, L), float32; share of its labelled voxels that are not background, 0 to 1."""
    labelled: Tensor
    """(B, L), bool; it holds a voxel whose label is known."""
    inside: Tensor
    """(B, L), float32; share of all its voxels that are labelled and not background, 0 to 1."""


def token_labels(
    label: Tensor, grid_size: Sequence[int], *, known: Tensor | None = None, regions: bool = False
) -> TokenLabels:
    """Look at the labels of each token's voxels.

    Args:
        label: (B, 1, *size) class numbers, 0 for background; with `regions` (B, R, *size), 0 or 1 for each of R
            regions, which may overlap.
        grid_size: tokens per axis; divides `size`.
        known: (B, 1, *size), bool, voxels whose label counts; None for all. For nnU-Net's ignore label.
        regions: whether the channels are regions.

    Raises:
        ValueError: if the grid does not divide the label, or the label has several channels and `regions` is false.
    """
    size = label.shape[2:]
    if len(size) != len(grid_size) or any(edge % tokens for edge, tokens in zip(size, grid_size)):
        msg = f"label must be a multiple of the token grid {tuple(grid_size)} on each axis; got {tuple(size)}"
        raise ValueError(msg)
    if not regions and label.shape[1] != 1:
        msg = f"label must have one channel unless its channels are regions; got {label.shape[1]}"
        raise ValueError(msg)
    kernel = [edge // tokens for edge, tokens in zip(size, grid_size)]
    values = label.float()
    inside = (values > 0).any(dim=1, keepdim=True)
    if known is not None:
        inside = inside & known

    def counting(numbers: Tensor) -> Tensor:
        # voxels that do not count are neither the largest nor the smallest
        return numbers if known is None else numbers.masked_fill(~known, float("-inf"))

    largest, smallest = _pool(counting(values), kernel), -_pool(counting(-values), kernel)
    count = _pool(torch.ones_like(inside).float() if known is None else known.float(), kernel, mean=True)[:, 0]
    labelled = count > 0
    share_inside = _pool(inside.float(), kernel, mean=True)[:, 0]
    return TokenLabels(
        mixed=(largest > smallest).any(dim=1) & labelled,
        foreground=(largest > 0).any(dim=1) & labelled,
        share=share_inside / count.clamp(min=torch.finfo(count.dtype).tiny),
        labelled=labelled,
        inside=share_inside,
    )


def _pool(values: Tensor, kernel: Sequence[int], *, mean: bool = False) -> Tensor:
    """(B, C, *size) to (B, C, L): the largest, or the mean, of each token's voxels.

    Not by pooling layers, which Apple's GPUs lack in three dimensions.
    """
    # the last axis first, which lies closest in memory
    for axis, edge in reversed(list(enumerate(kernel, start=2))):
        parts = torch.unflatten(values, axis, (-1, edge))
        values = parts.mean(axis + 1) if mean else parts.amax(axis + 1)
    return values.flatten(2)
