"""Synthetic volumes with small lesions: tissue with texture, bias and noise, and things that only look like lesions.

A bright spot is a lesion in the inner tissue alone: the same spots in the outer rim, bright vessels and dark cavities
are confounders, so that a network has to look around. Volumes are drawn from (`SEED`, number) and kept in memory.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import binary_dilation, distance_transform_edt, gaussian_filter
from torch import Tensor

SEED = 41
EDGE = 56
SIZES = (1, 200)
"""voxels of a lesion, drawn log-uniformly"""

Array = np.ndarray


def lesion_cases(count: int, edge: int = EDGE) -> list[tuple[str, Tensor, Tensor]]:
    """Draw volumes: name, image (1, edge, edge, edge), label of the same shape."""
    cases = []
    for number in range(count):
        image, label = lesion_volume(np.random.default_rng((SEED, number)), edge)
        cases.append((f"lesions_{number:03d}", torch.from_numpy(image)[None], torch.from_numpy(label)[None]))
    return cases


def lesion_volume(rng: np.random.Generator, edge: int = EDGE) -> tuple[Array, Array]:
    """Draw one volume and the mask of its lesions, both float32."""
    body, inner, cavity = _anatomy(rng, edge)
    rim = body & ~inner & ~cavity
    contrast = rng.uniform(0.3, 0.6)
    image = 0.75 * rim + 1.0 * inner + 0.35 * cavity
    label = _spots(rng, inner & (distance_transform_edt(inner) > 1), count=int(rng.integers(3, 16)))
    decoys = _spots(rng, rim, count=int(rng.integers(5, 16)))
    dark = _spots(rng, inner & ~binary_dilation(label, iterations=2), count=int(rng.integers(0, 4)))
    vessels = _vessels(rng, edge, count=int(rng.integers(2, 6))) & body & ~binary_dilation(label)
    image = image + contrast * (label | vessels) + (0.25 + contrast) * (decoys & ~vessels) - 0.5 * (dark & ~vessels)
    image = gaussian_filter(image, 0.6)
    image *= 1 + 0.04 * _smooth(rng, edge, 1.5) + 0.1 * _smooth(rng, edge, 20)
    noise = 0.05 * rng.standard_normal((2, edge, edge, edge))
    image = np.hypot(image + noise[0], noise[1])  # a magnitude image's noise is Rician
    return image.astype(np.float32), label.astype(np.float32)


def _smooth(rng: np.random.Generator, edge: int, sigma: float) -> Array:
    """Correlated noise of unit deviation."""
    field = gaussian_filter(rng.standard_normal((edge, edge, edge)), sigma, mode="wrap")
    return field / field.std()


def _anatomy(rng: np.random.Generator, edge: int) -> tuple[Array, Array, Array]:
    """Masks of a body, its inner tissue behind a folded rim, and a cavity in the middle."""
    axes = np.stack(np.meshgrid(*[np.linspace(-1, 1, edge)] * 3, indexing="ij"))
    centre, radii = rng.uniform(-0.1, 0.1, (3, 1, 1, 1)), rng.uniform(0.8, 1.0, (3, 1, 1, 1))
    radius = np.sqrt((((axes - centre) / radii) ** 2).sum(0))
    body = radius + 0.04 * _smooth(rng, edge, 6) < 1
    inner = radius + 0.1 * _smooth(rng, edge, 4) < rng.uniform(0.65, 0.75)
    cavity = inner & (radius + 0.1 * _smooth(rng, edge, 5) < rng.uniform(0.1, 0.25))
    return body, inner & body & ~cavity, cavity


def _spots(rng: np.random.Generator, where: Array, count: int) -> Array:
    """Mask of up to `count` blobs inside `where` that do not touch each other."""
    mask = np.zeros_like(where)
    for _ in range(count):
        size = round(float(np.exp(rng.uniform(*np.log(SIZES)))))
        free = where & ~binary_dilation(mask, np.ones((3, 3, 3)), iterations=2)
        places = np.argwhere(free)
        if len(places) < size:
            break
        mask |= _blob(rng, places, size, where.shape)
    return mask


def _blob(rng: np.random.Generator, places: Array, size: int, shape: tuple[int, ...]) -> Array:
    """Mask of the `size` allowed places nearest to one of them, in a random, uneven metric."""
    offset = (places - places[rng.integers(len(places))]) @ np.linalg.qr(rng.standard_normal((3, 3)))[0]
    distance = ((offset / rng.uniform(0.6, 1.4, 3)) ** 2).sum(1) * rng.uniform(0.85, 1.15, len(places))
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(places[np.argpartition(distance, size - 1)[:size]].T)] = True
    return mask


def _vessels(rng: np.random.Generator, edge: int, count: int) -> Array:
    """Mask of thin, winding tubes that cross the volume."""
    mask = np.zeros((edge, edge, edge), dtype=bool)
    for _ in range(count):
        point, step = rng.uniform(0, edge, 3), rng.standard_normal(3)
        for _ in range(2 * edge):
            step += 0.15 * rng.standard_normal(3)
            step /= np.linalg.norm(step)
            point = point + 0.7 * step
            if (point < 0).any() or (point >= edge).any():
                break
            mask[tuple(point.astype(int))] = True
    return mask
