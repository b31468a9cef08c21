"""Arithmetic of image size, token patch and token grid. Plain integers, no tensors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from numbers import Real

__all__ = ["per_axis", "stage_strides", "token_grid", "total_stride"]


def per_axis(value: int | Sequence[int], spatial_dims: int, *, name: str) -> tuple[int, ...]:
    """Spell out a size as one positive int per axis, from an int or from one int per axis.

    NumPy's integers and floats without a fraction pass too. The error calls the value `name`.

    Raises:
        ValueError: if the number of axes is wrong, or a size is not a positive int.
    """
    sizes = tuple(value) if isinstance(value, Iterable) else (value,) * spatial_dims
    positive = all(isinstance(size, Real) and float(size) >= 1 and float(size).is_integer() for size in sizes)
    if len(sizes) != spatial_dims or not positive:
        msg = f"{name} must be one positive int, or {spatial_dims} of them (spatial_dims={spatial_dims}); got {value}"
        raise ValueError(msg)
    return tuple(int(size) for size in sizes)


def token_grid(img_size: Sequence[int], patch_size: Sequence[int]) -> tuple[int, ...]:
    """Number of tokens per axis.

    Raises:
        ValueError: if a token patch does not divide the image; the message names the nearest token patch that does.
    """
    img_size, patch_size = tuple(img_size), tuple(patch_size)
    for axis, (size, patch) in enumerate(zip(img_size, patch_size)):
        if size % patch:
            # a token of a single voxel needs another axis on which it is longer
            others = zip(img_size[:axis] + img_size[axis + 1 :], patch_size[:axis] + patch_size[axis + 1 :])
            least = 1 if any(edge > 1 and extent % edge == 0 for extent, edge in others) else 2
            divisors = [n for n in range(min(least, size), size + 1) if size % n == 0]
            nearest = min(divisors, key=lambda n: (abs(n - patch), -n))
            lower = size // patch * patch
            sizes = f"{lower} or {lower + patch}" if lower else f"{patch}"
            msg = (
                f"patch_size {patch_size} does not divide img_size {img_size} on axis {axis}: "
                f"{size} is not a multiple of {patch}. The nearest token patch that divides {size} is {nearest}; "
                f"the nearest image sizes for a token patch of {patch} are {sizes}"
            )
            raise ValueError(msg)
    return tuple(size // patch for size, patch in zip(img_size, patch_size))


def _prime_factors(number: int) -> list[int]:
    factors = []
    divisor = 2
    while number > 1:
        while number % divisor == 0:
            factors.append(divisor)
            number //= divisor
        divisor += 1
    return factors


def stage_strides(patch_size: Sequence[int]) -> list[tuple[int, ...]]:
    """Steps from the full image down to the token grid, the finest first.

    An axis with a smaller token patch starts to shrink later, as in nnU-Net's plans for anisotropic images:
    `(4, 8, 8)` gives `[(1, 2, 2), (2, 2, 2), (2, 2, 2)]`.

    Raises:
        ValueError: if the token patch is a single voxel.
    """
    factors = [_prime_factors(patch) for patch in patch_size]
    depth = max(len(axis) for axis in factors)
    if depth == 0:
        msg = f"patch_size must be larger than 1 on at least one axis; got {tuple(patch_size)}"
        raise ValueError(msg)
    padded = [[1] * (depth - len(axis)) + axis for axis in factors]
    return list(zip(*padded))


def total_stride(strides: Sequence[Sequence[int]], spatial_dims: int) -> tuple[int, ...]:
    """Voxels per axis that all steps span together; 1 each without any step."""
    return tuple(prod(stride[axis] for stride in strides) for axis in range(spatial_dims))
