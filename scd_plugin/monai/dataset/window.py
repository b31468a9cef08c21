"""Window and token size for images of a given size and spacing. Plain arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor, log2, prod

__all__ = ["window_and_patch"]

# The published token patch, and as many tokens an axis as its crop of 96 voxels has.
PATCH = 8
MAX_TOKENS_PER_AXIS = 12
# As for nnU-Net's plans: with fewer tokens pruning has nothing to save.
MIN_TOKENS = 512
MIN_PATCH = 4


def window_and_patch(shape: Sequence[float], spacing: Sequence[float]) -> tuple[list[int], list[int]]:
    """Choose sliding window and token patch, in voxels per axis.

    A token is about as long on every axis in millimetres: an axis with a coarser spacing gets a smaller token patch,
    by powers of two. The window is the whole image where it is small, else 12 tokens an axis; where that gives fewer
    than 512 tokens, tokens are halved once.

    Args:
        shape: typical image, voxels per axis.
        spacing: mm per axis.

    Returns:
        `img_size` and `patch_size` of the network; the patch divides the window.
    """
    finest = min(spacing)
    patch = [max(1, PATCH >> floor(log2(step / finest) + 1e-6)) for step in spacing]
    longest = [MAX_TOKENS_PER_AXIS * edge for edge in patch]
    window = _window(shape, patch, longest)
    if prod(size // edge for size, edge in zip(window, patch)) < MIN_TOKENS and max(patch) > MIN_PATCH:
        patch = [max(1, edge // 2) for edge in patch]
        window = _window(shape, patch, longest)
    return window, patch


def _window(shape: Sequence[float], patch: Sequence[int], longest: Sequence[int]) -> list[int]:
    return [min(limit // edge, max(2, ceil(size / edge))) * edge for size, edge, limit in zip(shape, patch, longest)]
