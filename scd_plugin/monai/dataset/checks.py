"""Every case is opened before a training starts: what would break it hours later is said now, with the file's name."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk

from scd_plugin.complete_files import check_complete, tells_its_size
from scd_plugin.monai.dataset.labelled_folders import Case, DatasetFolder
from scd_plugin.reader_errors import reading_error
from scd_plugin.voxel_values import check_stored_values, wrong_values

__all__ = [
    "Header",
    "apart",
    "check_cases",
    "check_image",
    "num_channels",
    "read_channels",
    "read_header",
    "read_voxels",
    "usable_cases",
]

# files written by different tools differ in the last digits of a float32
GEOMETRY_TOLERANCE = 1e-3
AXES_OF_A_VOLUME = 3
_TIME = " (a fourth axis, such as time, is taken for channels)"

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Header:
    """Geometry of an image file, in its own axis order; a fourth axis is taken for channels."""

    size: tuple[int, ...]
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]
    channels: int


def read_header(path: Path) -> Header:
    """Read an image file's header, not its voxels.

    Raises:
        ValueError: if the file can't be read.
    """
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise ValueError(reading_error([path], error)) from None
    size, spacing, origin = reader.GetSize(), reader.GetSpacing(), reader.GetOrigin()
    axes, channels = len(size), reader.GetNumberOfComponents()
    direction = np.asarray(reader.GetDirection()).reshape(axes, axes)
    if axes > AXES_OF_A_VOLUME:
        channels *= size[AXES_OF_A_VOLUME]
        axes = AXES_OF_A_VOLUME
    return Header(size[:axes], spacing[:axes], origin[:axes], tuple(direction[:axes, :axes].ravel()), channels)


def read_voxels(path: Path) -> np.ndarray:
    """Read an image file's voxels in (z, y, x) order, channels where SimpleITK puts them.

    Raises:
        ValueError: if they can't be read.
    """
    return sitk.GetArrayFromImage(_read(path))


def read_channels(path: Path) -> np.ndarray:
    """Read an image file's voxels in (channels, z, y, x) order, be channels a fourth axis or the parts of a vector.

    Raises:
        ValueError: if they can't be read.
    """
    image = _read(path)
    voxels = sitk.GetArrayFromImage(image)
    if image.GetNumberOfComponentsPerPixel() > 1:
        voxels = np.moveaxis(voxels, -1, 0)
    return voxels.reshape(-1, *voxels.shape[-AXES_OF_A_VOLUME:])


def _read(path: Path) -> sitk.Image:
    try:
        return sitk.ReadImage(str(path))
    except RuntimeError:
        # ITK's own reason is of many lines, and often a wrong one ("No such file")
        msg = f"the voxels of {path} can't be read: the file is cut off or damaged; copy or download it again"
        raise ValueError(msg) from None


def check_image(path: Path, header: Header) -> None:
    """Refuse a file that a network can't be given. Voxels of NIfTI files of integers are not read for it.

    Args:
        path: an image file.
        header: of the file.

    Raises:
        ValueError: if it is flat, cut off, or holds values that are complex, not finite or too large.
    """
    if len(header.size) != AXES_OF_A_VOLUME:
        msg = f"image {path} is flat; this bundle takes volumes, nnU-Net (-tr nnUNetTrainerSCD) flat images too"
        raise ValueError(msg)
    check_complete(path)
    check_stored_values(path)
    if not tells_its_size(path) and (problem := wrong_values(read_voxels(path))):
        msg = f"image {path} holds {problem}: replace them by the background's"
        raise ValueError(msg)


def num_channels(case: Case) -> int:
    """Count the channels of a case, in one file or in several.

    Raises:
        ValueError: if a file can't be read.
    """
    return sum(read_header(path).channels for path in case.images)


def check_cases(cases: Iterable[Case], *, channels: int, labels: Sequence[int]) -> dict[str, str]:
    """Find what is wrong with which case.

    Args:
        cases: their files are opened; labels are read whole.
        channels: how many each image must have.
        labels: values that label files may hold, background and ignore label among them.

    Returns:
        Case name -> one sentence, for the cases that can't be used.
    """

    def problem(case: Case) -> str | None:
        try:
            headers = {path: read_header(path) for path in (*case.images, case.label)}
            for path in case.images:
                check_image(path, headers[path])
            check_complete(case.label)
            check_stored_values(case.label)
            return _geometry(case, headers, channels) or _label_values(case, labels)
        except ValueError as error:
            return str(error)

    cases = list(cases)
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(problem, cases))
    return {case.name: sentence for case, sentence in zip(cases, found) if sentence}


def usable_cases(dataset: DatasetFolder, *, channels: int, labels: Sequence[int], skip_bad: bool) -> list[Case]:
    """List the cases that can be trained on.

    Args:
        dataset: the folder.
        channels: see `check_cases`.
        labels: see `check_cases`.
        skip_bad: leave damaged cases out, and log each of them, instead of refusing the data set.

    Raises:
        ValueError: if a case is damaged and `skip_bad` is false, or if no case is left.
    """
    problems = dataset.problems | check_cases(dataset.cases, channels=channels, labels=labels)
    if problems and not skip_bad:
        first = next(iter(problems.values()))
        more = f" (and {len(problems) - 1} more cases with problems)" if len(problems) > 1 else ""
        msg = f"{first}{more}. Mend the files, or leave such cases out with --skip_bad True"
        raise ValueError(msg)
    for name, sentence in problems.items():
        _LOGGER.warning("left out: case %s: %s", name, sentence)
    left = [case for case in dataset.cases if case.name not in problems]
    if not left:
        msg = f"no case of {dataset.root} can be used; the first: {next(iter(problems.values()))}"
        raise ValueError(msg)
    return left


def _geometry(case: Case, headers: Mapping[Path, Header], channels: int) -> str | None:
    label = headers[case.label]
    if problem := apart(case.images, [headers[path] for path in case.images]):
        return problem
    if label.channels != 1:
        return f"label {case.label} must have one channel and three axes; it has {label.channels} channels{_TIME}"
    total = 0
    for path in case.images:
        image = headers[path]
        total += image.channels
        if image.size != label.size:
            return f"image {path} has {_times(image.size)} voxels, its label {case.label} {_times(label.size)}"
        for name in ("spacing", "origin", "direction"):
            one, two = getattr(image, name), getattr(label, name)
            if not np.allclose(one, two, rtol=GEOMETRY_TOLERANCE, atol=GEOMETRY_TOLERANCE):
                what = f"image {path} and its label {case.label} differ in {name}: {_short(one)} and {_short(two)}"
                return what + _two_affines(path) + _two_affines(case.label)
    if total != channels:
        files = ", ".join(str(path) for path in case.images)
        return f"image {files} has {total} channels where {channels} are expected{_TIME if total > channels else ''}"
    return None


def apart(paths: Sequence[Path], headers: Sequence[Header]) -> str | None:
    """Say in what files differ that hold the channels of one image; MONAI stacks none but those of one grid."""
    first = headers[0]
    for path, header in zip(paths, headers):
        who = f"channels {paths[0]} and {path} of one image differ in"
        if header.size != first.size:
            return f"{who} size: {_times(first.size)} and {_times(header.size)} voxels"
        # MONAI compares with NumPy's tolerances
        if not np.allclose(_affine(header), _affine(first)):
            pairs = ((name, getattr(first, name), getattr(header, name)) for name in ("spacing", "origin", "direction"))
            differ = [
                f"{name} {_short(one)} and {_short(two)}" for name, one, two in pairs if not np.allclose(one, two)
            ]
            return f"{who} {', '.join(differ) or 'geometry'}: write them with one geometry"
    return None


def _affine(header: Header) -> np.ndarray:
    turned = np.reshape(header.direction, (len(header.spacing), -1)) * np.asarray(header.spacing)
    return np.column_stack([turned, header.origin])


def _two_affines(path: Path) -> str:
    """Say so of a NIfTI file whose qform and sform differ: tools that take one or the other make such pairs."""
    if not tells_its_size(path):
        return ""
    header: Any = nib.load(path).header
    (qform, has_qform), (sform, has_sform) = header.get_qform(coded=True), header.get_sform(coded=True)
    if not (has_qform and has_sform) or np.allclose(qform, sform, rtol=GEOMETRY_TOLERANCE, atol=GEOMETRY_TOLERANCE):
        return ""
    return f" ({path.name} holds two affines that differ, qform and sform: make them the same)"


def _label_values(case: Case, labels: Sequence[int]) -> str | None:
    found = np.unique(read_voxels(case.label))
    if found[0] < 0:
        return f"label {case.label} holds the value {found[0]:g}; labels are whole numbers from 0"
    if broken := [value for value in found.tolist() if value % 1]:
        return f"label {case.label} holds {broken[0]!r}, which is no whole number: round its values, and write it again"
    unexpected = [value for value in found.tolist() if value not in labels]
    if unexpected:
        return f"label {case.label} holds the values {_short(unexpected[:5])}, which are not among {sorted(labels)}"
    return None


def _times(size: Sequence[int]) -> str:
    return "x".join(str(edge) for edge in size)


def _short(values: Sequence[float]) -> str:
    # -0.0 + 0 is 0
    return "(" + ", ".join(f"{value + 0:g}" for value in values) + ")"
