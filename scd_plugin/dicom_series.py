"""Finds, checks and reads DICOM series; ITK makes a volume of slices that are none as well, with a wrong geometry."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from scd_plugin.reader_errors import reading_error

__all__ = ["check_series", "series_folders", "series_in", "series_to_file"]

_POSITION, _ORIENTATION = "0020|0032", "0020|0037"
# DICOM's numbers are rounded; a quarter of a slice is less than any slice that is missing makes
_SHARE_OF_SLICE = 0.25
_COSINE_TOLERANCE = 1e-3

Array = npt.NDArray[np.float64]


def series_in(folder: Path) -> tuple[str, ...]:
    """Identify the series whose files lie in a folder itself."""
    return tuple(sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder)))


def series_folders(folder: Path) -> list[Path]:
    """List the folders that hold a series: a folder itself, and those of patients and studies as deep as they lie."""
    return [place for place in sorted(_folders(folder)) if series_in(place)]


def _folders(root: Path) -> Iterator[Path]:
    """Go through folders behind links too, each once, so that links that lead in circles end."""
    seen = set()
    for place, below, _ in os.walk(root, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            below.clear()
        else:
            seen.add(real)
            yield Path(place)


def series_to_file(folder: Path, file: Path) -> None:
    """Write a series as one image file in the same geometry.

    Raises:
        ValueError: as `check_series`, or if the series can't be read, or `file` has an ending that ITK does not write.
    """
    check_series(folder)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise ValueError(reading_error([folder], error)) from None
    try:
        sitk.WriteImage(image, str(file))
    except RuntimeError:
        ending = file.name[file.name.index(".") :]
        msg = (
            f"DICOM series {folder} can't be made an image with the ending {ending}, which the model reads; convert it"
        )
        raise ValueError(msg) from None


def check_series(folder: Path) -> None:
    """Refuse a folder that is not one volume of parallel slices at even distances, by what each file's header says.

    Raises:
        ValueError: if it holds several series, or slices of several sizes or orientations, at one place, missing, at
            uneven distances, or shifted against each other (a tilted gantry).
    """
    series = series_in(folder)
    if len(series) > 1:
        msg = (
            f"folder {folder} holds {len(series)} DICOM series ({', '.join(series[:3])}), and nothing says which to "
            "take: put each into a folder of its own"
        )
        raise ValueError(msg)
    files = [Path(file) for file in sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series[0])]
    if len(files) == 1:
        # one slice, or one file of many frames
        return
    sizes, positions, orientations = zip(*map(_placed, files))
    problem = _parallel(files, sizes, np.array(orientations)) or _even(
        files, np.array(positions), np.array(orientations[0]).reshape(2, 3)
    )
    if problem:
        msg = f"DICOM series {folder} is not one regular volume: {problem}"
        raise ValueError(msg)


def _placed(file: Path) -> tuple[tuple[int, ...], list[float], list[float]]:
    """Read size, position (mm) and the two in-plane axes of a slice."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(file))
    try:
        reader.ReadImageInformation()
        position, orientation = (
            [float(number) for number in reader.GetMetaData(tag).split("\\")] for tag in (_POSITION, _ORIENTATION)
        )
    except (RuntimeError, ValueError):
        position, orientation = [], []
    if (len(position), len(orientation)) != (3, 6):
        msg = f"DICOM file {file} does not say where its slice lies (ImagePositionPatient, ImageOrientationPatient)"
        raise ValueError(msg)
    return reader.GetSize(), position, orientation


def _parallel(files: list[Path], sizes: tuple[tuple[int, ...], ...], orientations: Array) -> str:
    """Say which slice differs from the first in size or orientation."""
    for file, size, orientation in zip(files, sizes, orientations):
        what = ""
        if size[:2] != sizes[0][:2]:
            what = f"{size[0]}x{size[1]} voxels where {files[0].name} has {sizes[0][0]}x{sizes[0][1]}"
        elif not np.allclose(orientation, orientations[0], atol=_COSINE_TOLERANCE):
            what = f"another orientation than {files[0].name}"
        if what:
            return f"{file.name} has {what}, as a localizer has; put what is no part of the volume elsewhere"
    return ""


def _even(files: list[Path], positions: Array, axes: Array) -> str:
    """Say which slices lie at one place, too far apart, or shifted."""
    normal = np.cross(*axes)
    depths = positions @ normal
    order = np.argsort(depths, kind="stable")
    names, depths, positions = [files[index].name for index in order], depths[order], positions[order]
    gaps = np.diff(depths)
    usual = float(np.median(gaps))
    least, widest = int(gaps.argmin()), int(gaps.argmax())
    if gaps[least] < _SHARE_OF_SLICE * usual or usual == 0:
        return (
            f"{names[least]} and {names[least + 1]} lie at one place, as where two echoes, phases or scans share a "
            "series; put each volume into a folder of its own"
        )
    even = np.linspace(depths[0], depths[-1], len(depths))
    if np.abs(depths - even).max() > _SHARE_OF_SLICE * usual:
        return (
            f"{names[widest]} and {names[widest + 1]} lie {gaps[widest]:.4g} mm apart where slices lie {usual:.4g} mm "
            "apart as a rule, as where slices are missing; copy or download the series again, or resample it"
        )
    shifts = (positions - positions[0]) @ axes.T
    if np.abs(shifts).max() > max(_SHARE_OF_SLICE * usual, _COSINE_TOLERANCE * (depths[-1] - depths[0])):
        return (
            f"its slices are shifted against each other, {np.abs(shifts[-1]).max():.4g} mm from {names[0]} to "
            f"{names[-1]}, as of a tilted gantry; resample it to a straight grid"
        )
    return ""
