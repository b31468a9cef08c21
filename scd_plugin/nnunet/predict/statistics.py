"""Numbers of each class in a predicted label map: how large, where, how bright."""

from __future__ import annotations

import csv
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import find_objects

from scd_plugin.nnunet.model.recipe import Array
from scd_plugin.whole_files import moved_into_place

__all__ = ["case_statistics", "class_values", "index_to_world", "rows_in", "write_statistics"]

_AXES = ("x", "y", "z")
_MM3_IN_ML = 1000.0


def class_values(labels: Mapping[str, int | Sequence[int]], region_order: Sequence[int] | None) -> dict[str, set[int]]:
    """Return the values of each class, or region, in a label map; without background and nnU-Net's ignore label.

    Args:
        labels: those of dataset.json; a region names several.
        region_order: what nnU-Net writes for the regions, in their order; None where there are none.
    """
    named = {name: value for name, value in labels.items() if name not in ("background", "ignore")}
    listed = {name: {value} if isinstance(value, int) else set(value) for name, value in named.items()}
    if region_order is None:
        return listed
    # a region is made of the labels that are written for it and for those painted over it
    return {name: values & set(region_order) for name, values in listed.items()}


def index_to_world(properties: Mapping[str, Any]) -> Array:
    """Return the matrix (4, 4) from a voxel's place in x, y, z to mm to the left, back and top (LPS), as in ITK.

    Args:
        properties: those of an image by one of nnU-Net's readers; without geometry, as for PNG and TIFF, the first
            voxel is the origin.
    """
    matrix = np.eye(4)
    if "nibabel_stuff" in properties:
        # MONAI takes seconds to import, and label maps are read by few with nibabel
        from monai.data.utils import orientation_ras_lps

        known = properties["nibabel_stuff"]
        return np.asarray(orientation_ras_lps(known.get("reoriented_affine", known["original_affine"])))
    if "sitk_stuff" in properties:
        known = properties["sitk_stuff"]
        axes = len(known["spacing"])
        matrix[:axes, :axes] = np.reshape(known["direction"], (axes, axes)) * known["spacing"]
        matrix[:axes, 3] = known["origin"]
        return matrix
    matrix[:3, :3] = np.diag(properties["spacing"][::-1])
    return matrix


def case_statistics(
    label_map: Array,
    image: Array,
    classes: Mapping[str, set[int]],
    channels: Sequence[str],
    properties: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Return a row for each class; of one that is absent only the count of voxels, which is 0.

    Args:
        label_map: (Z, Y, X).
        image: (C, Z, Y, X), with the intensities of the file.
        classes: as `class_values`.
        channels: their names.
        properties: as for `index_to_world`. Flat images have no volume.

    Returns:
        Voxels, ml, centroid in mm (LPS), mean of each channel, and the first and last voxel along x, y and z.
    """
    matrix, rows = index_to_world(properties), []
    volume = abs(float(np.linalg.det(matrix[:3, :3]))) / _MM3_IN_ML
    flat = len(properties.get("sitk_stuff", {}).get("spacing", _AXES)) == 2 or label_map.shape[0] == 1
    for name, values in classes.items():
        mask = np.isin(label_map, sorted(values))
        voxels = int(mask.sum())
        row: dict[str, Any] = {"class": name, "voxels": voxels}
        if voxels:
            places = np.argwhere(mask)[:, ::-1]
            centre = matrix @ [*places.mean(axis=0), 1.0]
            (box,) = find_objects(mask.astype(np.uint8))
            row["volume_ml"] = "" if flat else round(voxels * volume, 6)
            row |= {f"centroid_{axis}_mm": round(float(mm), 3) for axis, mm in zip(_AXES, centre)}
            means = (float(np.mean(channel[mask])) for channel in image)
            row |= {f"mean_{name}": mean for name, mean in zip(_told_apart(channels), means)}
            for axis, part in zip(_AXES, box[::-1]):
                row |= {f"first_voxel_{axis}": part.start, f"last_voxel_{axis}": part.stop - 1}
        rows.append(row)
    return rows


def write_statistics(
    path: Path, rows: Sequence[Mapping[str, Any]], channels: Sequence[str], *, cases_to_keep: Container[str] = ()
) -> None:
    """Write rows, each with a case, to a CSV file, beside those of `cases_to_keep`; it appears whole or not at all."""
    columns = ["case", "class", "voxels", "volume_ml", *(f"centroid_{axis}_mm" for axis in _AXES)]
    columns += [f"mean_{channel}" for channel in _told_apart(channels)]
    columns += [f"{end}_voxel_{axis}" for axis in _AXES for end in ("first", "last")]
    cases = {row["case"] for row in rows}
    before = [row for row in rows_in(path) if row["case"] in cases_to_keep and row["case"] not in cases]
    with moved_into_place(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(sorted([*before, *rows], key=lambda row: str(row["case"])))


def _told_apart(channels: Sequence[str]) -> list[str]:
    """Names of channels; those that several have, as phases of a CT do, get the channel's number: CT_0000, CT_0001."""
    return [f"{name}_{number:04d}" if channels.count(name) > 1 else name for number, name in enumerate(channels)]


def rows_in(path: Path) -> list[dict[str, str]]:
    """Rows of a file of statistics; none where there is none, or another program has changed how it is written."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [row for row in csv.DictReader(file) if row.get("case")]
    except (FileNotFoundError, UnicodeDecodeError, csv.Error):
        return []
