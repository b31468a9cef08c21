"""Planes through a case: the image with outlines of the classes, as small JPEG pictures in data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.ndimage import binary_dilation, binary_erosion, find_objects

from scd_plugin.report.cases import CaseFiles, class_masks
from scd_plugin.report.run import Run
from scd_plugin.report.volume import Array, Volume

__all__ = ["Panel", "Plane", "grey_window", "largest_planes", "planes"]

# pixels: longest edge of a picture, its shortest, and the width of an outline
EDGE, LEAST, OUTLINE = 320, 24, 2
QUALITY = 80
# what is darker than the range in and around the labels is black, what is brighter white: voxels around them,
# percentiles, and by how much of it the range is widened
AROUND, PERCENTILES, WIDER = 4, (2, 98), 0.3
_NAMES = {True: ("axial", "coronal", "sagittal"), False: ("across z", "across y", "across x")}
_NO_IMAGE = 48
_KEEP_SHARE = 0.55
_Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Panel:
    """A picture: what it shows, its data URI, its size in pixels, and a text for who does not see it."""

    title: str
    uri: str
    width: int
    height: int
    alt: str


@dataclass(frozen=True)
class Plane:
    """Pictures of one plane side by side."""

    title: str
    panels: Sequence[Panel]


def largest_planes(mask: Array) -> list[tuple[int, int]]:
    """Return axis and index of the plane with most voxels across each axis (Z, Y, X); the middle one if none has any.

    Planes of a single row of voxels show nothing and are left out, unless there are no others.
    """
    chosen = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        if min(mask.shape[other] for other in others) > 1:
            areas = mask.sum(axis=others)
            chosen.append((axis, int(areas.argmax()) if areas.any() else mask.shape[axis] // 2))
    return chosen or [(0, 0)]


def grey_window(image: Array, mask: Array) -> tuple[float, float]:
    """Return the values to show as black and white: a wider range than that in and around the labels, else of all."""
    places = find_objects(mask.astype(np.uint8))
    around = None
    if places:
        box = tuple(slice(max(0, part.start - AROUND), part.stop + AROUND) for part in places[0])
        around = image[box][binary_dilation(mask[box], iterations=AROUND)]
    for part in (around, image):
        values = [] if part is None else part[np.isfinite(part)]
        low, high = np.percentile(values, PERCENTILES) if len(values) else (0.0, 0.0)
        if high > low:
            wider = WIDER * (high - low)
            return float(low - wider), float(high + wider)
    return float(low), float(low) + 1.0


def planes(run: Run, case: str, files: CaseFiles, colours: Mapping[str, _Colour]) -> list[Plane]:
    """Draw the planes with most labels through a case."""
    labelled = np.isin(files.prediction.voxels, sorted(set().union(*run.classes.values())))
    if files.truth is not None:
        labelled |= np.isin(files.truth.voxels, sorted(set().union(*run.truth_classes.values())))
    window = None if files.image is None else grey_window(files.image.voxels, labelled)
    shown = []
    for axis, index in largest_planes(labelled):
        size = files.prediction.voxels.shape[axis]
        name = _NAMES[files.prediction.oriented][axis]
        where = "image" if files.prediction.flat else f"{name}, slice {index + 1} of {size}"
        drawing = _Drawing(files, axis, index, window, colours)
        masks = {name: class_masks(run, files, name, drawing.part) for name in run.classes}
        predicted = {name: mask for name, (mask, _) in masks.items()}
        panels = [drawing.outlined("prediction", predicted, f"{case}, {where}")]
        if files.truth is not None:
            should = {name: mask for name, (_, mask) in masks.items() if mask is not None}
            panels.append(drawing.outlined("truth", should, f"{case}, {where}"))
        if files.keep_map is not None:
            panels.append(drawing.kept(files.keep_map, [colour for _, colour in run.stages], f"{case}, {where}"))
        shown.append(Plane(where, panels))
    return shown


@dataclass(frozen=True)
class _Drawing:
    """One plane of a case."""

    files: CaseFiles
    axis: int
    index: int
    window: tuple[float, float] | None
    colours: Mapping[str, _Colour]

    @property
    def part(self) -> tuple[slice | int, ...]:
        """Of a volume, the voxels in this plane."""
        return (*[slice(None)] * self.axis, self.index)

    def outlined(self, title: str, masks: Mapping[str, Array], where: str) -> Panel:
        picture, there = self._grey(), []
        for name, mask in masks.items():
            flat = self._scaled(mask) > 0
            if flat.any():
                there.append(name)
                inside = binary_erosion(flat, iterations=OUTLINE)
                picture[flat & ~inside] = self.colours[name]
        base = "no image, outlines of the" if self.window is None else "image with outlines of the"
        return _panel(title, picture, f"{where}: {base} {title}: {', '.join(there) or 'no class here'}")

    def kept(self, keep_map: Volume, stages: Sequence[_Colour], where: str) -> Panel:
        picture, values = self._grey().astype(float), self._scaled(keep_map.voxels[self.part])
        for value, colour in enumerate(stages, start=1):
            here = values == value
            picture[here] += _KEEP_SHARE * (np.array(colour) - picture[here])
        return _panel("keep map", picture.astype(np.uint8), f"{where}: at which stage the tokens left")

    def _upright(self, plane: Array) -> Array:
        # heads are up where planes hold the long axis of the body
        return plane[::-1] if self.axis else plane

    def _size(self) -> tuple[int, int]:
        """Width and height in pixels, in proportion to millimetres."""
        volume = self.files.prediction
        edges = [n * mm for n, mm in zip(volume.voxels.shape, volume.spacing)]
        height, width = (edge for axis, edge in enumerate(edges) if axis != self.axis)
        scale = EDGE / max(width, height)
        return max(LEAST, round(width * scale)), max(LEAST, round(height * scale))

    def _scaled(self, labels: Array) -> Array:
        plane = np.ascontiguousarray(self._upright(labels).astype(np.uint8))
        return np.asarray(Image.fromarray(plane).resize(self._size(), Image.Resampling.NEAREST))

    def _grey(self) -> Array:
        if self.files.image is None or self.window is None:
            width, height = self._size()
            return np.full((height, width, 3), _NO_IMAGE, dtype=np.uint8)
        low, high = self.window
        plane = np.nan_to_num(
            self._upright(self.files.image.voxels[self.part]).astype(float), nan=low, posinf=high, neginf=low
        )
        shades = (255 * np.clip((plane - low) / (high - low), 0, 1)).astype(np.uint8)
        grey = np.asarray(Image.fromarray(np.ascontiguousarray(shades)).resize(self._size(), Image.Resampling.BICUBIC))
        return np.stack([grey] * 3, axis=-1)


def _panel(title: str, picture: Array, alt: str) -> Panel:
    packed = io.BytesIO()
    # without subsampling, which would blur the colours of outlines
    Image.fromarray(picture).save(packed, "JPEG", quality=QUALITY, subsampling=0, optimize=True)
    uri = f"data:image/jpeg;base64,{base64.b64encode(packed.getvalue()).decode()}"
    return Panel(title, uri, picture.shape[1], picture.shape[0], alt)
