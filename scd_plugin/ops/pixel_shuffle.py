"""Pixel shuffle with a factor for each axis: voxels to channels and back. MONAI's has one factor for all axes."""

from __future__ import annotations

from torch import Tensor

__all__ = ["pixel_shuffle", "pixel_unshuffle"]


def pixel_unshuffle(x: Tensor, factors: list[int]) -> Tensor:
    """Fold the voxels of each cell into channels (space to depth), the inverse of `pixel_shuffle`.

    Args:
        x: (B, C, *size).
        factors: voxels of a cell per axis; they divide `size`.

    Returns:
        (B, C * prod(factors), *size / factors); the cell's last axis changes fastest along the channels.

    Raises:
        ValueError: if the factors do not divide the size, or are not one for each axis.
    """
    voxels = _cell_voxels(x, factors)
    # -1: graphs exported from here take any batch
    split, folded = [-1, x.shape[1]], [-1, x.shape[1] * voxels]
    inside = [0, 1]
    between: list[int] = []
    for axis, factor in enumerate(factors):
        size = x.shape[2 + axis]
        if size % factor != 0:
            msg = f"size {list(x.shape[2:])} must be a multiple of factors {factors} on each axis; change either"
            raise ValueError(msg)
        split.extend([size // factor, factor])
        folded.append(size // factor)
        inside.append(2 * axis + 3)
        between.append(2 * axis + 2)
    return x.reshape(split).permute(inside + between).reshape(folded)


def pixel_shuffle(x: Tensor, factors: list[int]) -> Tensor:
    """Unfold channels into the voxels of each cell (depth to space).

    Args:
        x: (B, C * prod(factors), *size).
        factors: voxels of a cell per axis.

    Returns:
        (B, C, *size * factors).

    Raises:
        ValueError: if channels are no multiple of the cell's voxels, or factors are not one for each axis.

    Source: arXiv 1609.05158.
    """
    axes, voxels = len(factors), _cell_voxels(x, factors)
    if x.shape[1] % voxels != 0:
        msg = f"channels must be a multiple of {voxels}, the voxels of a cell with factors {factors}; got {x.shape[1]}"
        raise ValueError(msg)
    unfolded, order = [-1, x.shape[1] // voxels], [0, 1]
    split = unfolded + factors
    for axis, factor in enumerate(factors):
        size = x.shape[2 + axis]
        split.append(size)
        unfolded.append(size * factor)
        order.extend([2 + axes + axis, 2 + axis])
    return x.reshape(split).permute(order).reshape(unfolded)


def _cell_voxels(x: Tensor, factors: list[int]) -> int:
    """Product of the factors, one for each axis of a map."""
    if x.ndim != len(factors) + 2:
        msg = f"factors must be one for each axis of maps (B, C, *size); got {factors} for {list(x.shape)}"
        raise ValueError(msg)
    voxels = 1
    for factor in factors:
        voxels = voxels * factor
    return voxels
