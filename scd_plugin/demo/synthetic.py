"""A small synthetic CT-like data set in nnU-Net's raw format, made on the spot."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter

__all__ = ["LABELS", "make_case", "write_dataset"]

EDGE = 64
SPACING_MM = 3.0
LABELS = {"background": 0, "liver": 1, "spleen": 2, "kidneys": 3, "gallbladder": 4}

# centre and radii as shares of the edge (z, y, x), density in HU, grain of the texture in voxels
_ORGANS = (
    ("liver", (0.58, 0.46, 0.34), (0.17, 0.19, 0.15), 110.0, 3.0),
    ("spleen", (0.62, 0.60, 0.74), (0.10, 0.09, 0.08), 190.0, 1.5),
    ("kidneys", (0.40, 0.66, 0.36), (0.10, 0.06, 0.06), 270.0, 1.0),
    ("kidneys", (0.40, 0.66, 0.64), (0.10, 0.06, 0.06), 270.0, 1.0),
    ("gallbladder", (0.46, 0.34, 0.42), (0.08, 0.08, 0.08), -60.0, 2.0),
)
_BODY = ((0.5, 0.5, 0.5), (0.48, 0.36, 0.42), 40.0, 2.0)


def make_case(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One image in HU, float32, and its labels, uint8, both (64, 64, 64); the same state of `rng` gives the same case.

    A noisy body in air holds four organs of different size, density and texture, which move, grow and turn from case
    to case. Most token patches see none of them.
    """
    image = np.full((EDGE,) * 3, -1000.0)
    labels = np.zeros((EDGE,) * 3, dtype=np.uint8)
    centre, radii, density, grain = _BODY
    inside = _ellipsoid(centre, radii, rng, wobble=0.03)
    image[inside] = density + _texture(rng, grain, 15.0)[inside]
    for name, centre, radii, density, grain in _ORGANS:
        inside = _ellipsoid(centre, radii, rng, wobble=0.15)
        image[inside] = density + _texture(rng, grain, 20.0)[inside]
        labels[inside] = LABELS[name]
    image = gaussian_filter(image, 0.5) + rng.normal(0, 15, image.shape)
    return image.astype(np.float32), labels


def write_dataset(folder: Path, *, num_cases: int, seed: int) -> None:
    """Write an nnU-Net raw data set: imagesTr, labelsTr and dataset.json.

    Every case follows from the seed and its number.
    """
    for directory in ("imagesTr", "labelsTr"):
        (folder / directory).mkdir(parents=True, exist_ok=True)
    for number in range(num_cases):
        image, labels = make_case(np.random.default_rng([seed, number]))
        _write(image, folder / "imagesTr" / f"case_{number:03d}_0000.nii.gz")
        _write(labels, folder / "labelsTr" / f"case_{number:03d}.nii.gz")
    description = {
        "channel_names": {"0": "CT"},
        "labels": LABELS,
        "numTraining": num_cases,
        "file_ending": ".nii.gz",
        "description": "synthetic, made by scd-plugin",
    }
    (folder / "dataset.json").write_text(json.dumps(description, indent=2))


def _ellipsoid(
    centre: tuple[float, ...], radii: tuple[float, ...], rng: np.random.Generator, *, wobble: float
) -> np.ndarray:
    """Filled ellipsoid, its radii scaled, its centre shifted and its surface bent by chance."""
    middle = (np.asarray(centre) + rng.uniform(-0.2, 0.2, 3) * wobble) * EDGE
    size = np.asarray(radii) * rng.uniform(1 - wobble, 1 + wobble, 3) * EDGE
    grid = np.stack(np.meshgrid(*[np.arange(EDGE)] * 3, indexing="ij"), axis=-1)
    bend = 0.1 * _texture(rng, 6.0, 1.0)
    return np.asarray((((grid - middle) / size) ** 2).sum(-1) < 1 + bend)


def _texture(rng: np.random.Generator, grain: float, amplitude: float) -> np.ndarray:
    """Smooth noise of a given grain and standard deviation."""
    noise = gaussian_filter(rng.normal(size=(EDGE,) * 3), grain)
    return np.asarray(noise / noise.std() * amplitude)


def _write(volume: np.ndarray, path: Path) -> None:
    image = sitk.GetImageFromArray(volume)
    image.SetSpacing((SPACING_MM,) * 3)
    sitk.WriteImage(image, str(path), useCompression=True)
