"""Image files as a report shows and compares them: one channel, three axes, the same orientation."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from scd_plugin.channel_files import without_channel
from scd_plugin.complete_files import check_complete
from scd_plugin.folders import read_json
from scd_plugin.reader_errors import reading_error

__all__ = ["Volume", "differs", "read_label_map", "read_volume"]

Array = npt.NDArray[Any]
# of the shortest edge of a voxel: files round their geometry, and some to 32 bits
SAME_PLACE = 0.5
LARGEST_LABEL = 2**16 - 1
FLAT, VOLUME = 2, 3
# formats whose files say nothing of millimetres that nnU-Net would read
_PLAIN, _TIFF = (".png", ".bmp"), (".tif", ".tiff")


@dataclass(frozen=True)
class Volume:
    """Voxels (Z, Y, X), their edges in mm, and where they lie.

    Axes run to the left, back and top (LPS), as near as the file's do; a flat image has one slice.
    """

    voxels: Array
    spacing: tuple[float, ...]
    affine: Array
    """(4, 4), from a voxel's place in x, y, z to mm."""
    flat: bool = False
    """Whether there is no third axis, so no volume either."""
    unit: str = "mm"
    oriented: bool = True
    """Whether the file says where left and top are."""
    note: str = ""


def read_volume(path: Path) -> Volume:
    """Read the first channel of an image.

    Raises:
        ValueError: a sentence with the file, if it was cut off, can't be read, or has other axes than an image.
    """
    if str(path).encode(errors="ignore") != os.fsencode(path):
        # which would end the process within SimpleITK
        msg = f"{str(path)!a} can't be read: its name holds bytes that are no letters; rename it"
        raise ValueError(msg)
    check_complete(path)
    try:
        image, notes = _one_channel(sitk.ReadImage(str(path)))
        axes, name = image.GetDimension(), path.name.lower()
        flat = axes == FLAT
        plain = name.endswith(_PLAIN) or (flat and name.endswith(_TIFF))
        if plain:
            image.SetSpacing([1.0] * axes)
            image.SetOrigin([0.0] * axes)
        elif name.endswith(_TIFF):
            image.SetSpacing(_spacing_beside(path))
        image = sitk.JoinSeries(image) if flat else sitk.DICOMOrient(image, "LPS")
    except RuntimeError as error:
        raise ValueError(reading_error([path], error)) from None
    voxels = sitk.GetArrayFromImage(image)
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    spacing = tuple(reversed(image.GetSpacing()))
    unit = "pixels" if plain else "mm"
    return Volume(voxels, spacing, affine, flat, unit, not flat and not name.endswith(_TIFF), "; ".join(notes))


def _one_channel(image: Any) -> tuple[Any, list[str]]:
    """Take the first of several channels, and of all axes behind the third; in words what that left out."""
    notes = []
    if (components := image.GetNumberOfComponentsPerPixel()) > 1:
        notes.append(f"the first of {components} channels is shown")
        image = sitk.VectorIndexSelectionCast(image, 0)
    while (axes := image.GetDimension()) > VOLUME:
        size = image.GetSize()
        if size[-1] > 1:
            notes.append(f"the first of {size[-1]} along axis {axes} is shown")
        image = sitk.Extract(image, [*size[:-1], 0], [0] * axes)
    if image.GetPixelID() in (sitk.sitkComplexFloat32, sitk.sitkComplexFloat64):
        image = sitk.ComplexToModulus(image)
        notes.append("it is complex, its absolute values are shown")
    return image, notes


def read_label_map(path: Path) -> Volume:
    """Read a label map; ValueError too if its values are no whole numbers from 0 to 65535, as in nnU-Net."""
    volume = read_volume(path)
    low, high = volume.voxels.min(), volume.voxels.max()
    # NaN is not within, either
    within = 0 <= low <= high <= LARGEST_LABEL
    labels = volume.voxels.astype(np.uint16) if within else volume.voxels
    if not (within and np.array_equal(labels, volume.voxels)):
        msg = (
            f"{path} is no label map: it must hold whole numbers from 0 to {LARGEST_LABEL}, and it holds {low:g} to "
            f"{high:g}; is it an image?"
        )
        raise ValueError(msg)
    return replace(volume, voxels=labels)


def differs(one: Volume, other: Volume) -> str:
    """Say how the geometry of `one` differs from that of `other`; nothing where it does not."""
    if one.voxels.shape != other.voxels.shape:
        sizes = [" x ".join(map(str, reversed(volume.voxels.shape))) for volume in (one, other)]
        return f"{sizes[0]} voxels instead of {sizes[1]}"
    corners = np.array([[*place, 1] for place in np.ndindex(2, 2, 2)]) * [*np.array(one.voxels.shape[::-1]) - 1, 1]
    apart = float(np.abs(corners @ (one.affine - other.affine).T).max())
    if apart > SAME_PLACE * min(other.spacing):
        return f"another place, up to {apart:.3g} {other.unit} away (origin, axes or spacing differ)"
    return ""


def _spacing_beside(path: Path) -> list[float]:
    """Spacing that nnU-Net keeps beside a TIFF file, in x, y, z; 1 mm where there is none, as in nnU-Net."""
    stem = path.name.rpartition(".")[0]
    for name in (stem, without_channel(stem)):
        if (file := path.with_name(f"{name}.json")).is_file():
            try:
                z, y, x = map(float, read_json(file, dict)["spacing"])
            except (KeyError, TypeError, ValueError):
                msg = f"{file} must hold a spacing of three numbers, for {path.name}"
                raise ValueError(msg) from None
            return [x, y, z]
    return [1.0] * 3
