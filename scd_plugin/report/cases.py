"""One case of a report: what its label map holds, and how far it agrees with the truth."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

import numpy as np
from scipy.ndimage import find_objects

from scd_plugin.report.run import Run
from scd_plugin.report.scores import Scores, class_scores, surface_axes
from scd_plugin.report.volume import Array, Volume, differs, read_label_map, read_volume

__all__ = ["CaseFiles", "CaseResult", "ClassResult", "class_boxes", "class_masks", "measure", "read_files"]

_MM3_IN_ML = 1000.0
_NOWHERE = (slice(0, 1),) * 3


@dataclass(frozen=True)
class ClassResult:
    """A class in one case."""

    name: str
    voxels: int
    truth_voxels: int | None = None
    """None without truth."""
    ml: float | None = None
    """None for flat images."""
    truth_ml: float | None = None
    scores: Scores = field(default=Scores(None, None, None))
    remark: str = ""


@dataclass
class CaseResult:
    """What was measured of a case, and what has to be said about it."""

    name: str
    classes: list[ClassResult] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    error: str = ""
    """Why there is nothing else."""
    unit: str = "mm"
    has_truth: bool = False

    def mean(self, score: str) -> float | None:
        """Mean of a score over the classes that have it."""
        values = [value for one in self.classes if (value := getattr(one.scores, score)) is not None]
        return mean(values) if values else None


@dataclass
class CaseFiles:
    """The volumes of a case that lie on one grid, that of the prediction."""

    prediction: Volume
    truth: Volume | None = None
    image: Volume | None = None
    keep_map: Volume | None = None
    notes: list[str] = field(default_factory=list)


def read_files(run: Run, case: str, *, pictures: bool) -> CaseFiles:
    """Read the files of a case; what does not fit the prediction is left out with a note.

    Args:
        run: where the files are.
        case: its name.
        pictures: whether the image and the keep map are needed, too.

    Raises:
        ValueError: if the prediction can't be read.
    """
    files = CaseFiles(read_label_map(run.label_maps[case]))
    if files.prediction.note:
        files.notes.append(f"the prediction: {files.prediction.note}")

    def read(what: str, path: Path | None, *, labels: bool) -> Volume | None:
        if path is None:
            return None
        try:
            volume = (read_label_map if labels else read_volume)(path)
        except (ValueError, OSError) as error:
            files.notes.append(f"{what}: {error}")
            return None
        if problem := differs(volume, files.prediction):
            files.notes.append(f"{what} is left out, it has {problem}: {path}")
            return None
        if volume.note:
            files.notes.append(f"{what}: {volume.note}")
        return volume

    files.truth = read("the truth", run.truth.get(case), labels=True)
    if pictures:
        files.image = read("the image", run.images.get(case), labels=False)
        files.keep_map = read("the keep map", run.keep_maps.get(case), labels=True)
    return files


def class_masks(
    run: Run, files: CaseFiles, name: str, part: tuple[slice | int, ...] = ()
) -> tuple[Array, Array | None]:
    """Return where a class was predicted and where it should be, in a part of the image; ignored voxels are nowhere."""
    mask = np.isin(files.prediction.voxels[part], sorted(run.classes[name]))
    if files.truth is None:
        return mask, None
    truth = files.truth.voxels[part]
    if run.ignore is not None:
        mask &= truth != run.ignore
    return mask, np.isin(truth, sorted(run.truth_classes[name]))


def class_boxes(run: Run, files: CaseFiles) -> dict[str, tuple[slice, ...] | None]:
    """Return the smallest box around each class, of prediction and truth together; None where neither has it."""
    places = [(find_objects(files.prediction.voxels), run.classes)]
    if files.truth is not None:
        places.append((find_objects(files.truth.voxels), run.truth_classes))
    boxes: dict[str, tuple[slice, ...] | None] = {}
    for name in run.classes:
        found = [
            known[value - 1]
            for known, classes in places
            for value in classes[name]
            if 0 < value <= len(known) and known[value - 1]
        ]
        ends = [(min(part.start for part in axis), max(part.stop for part in axis)) for axis in zip(*found)]
        boxes[name] = tuple(slice(*both) for both in ends) or None
    return boxes


def measure(run: Run, case: str, *, tolerance: float) -> CaseResult:
    """Measure a case; an unreadable one has an error and nothing else."""
    result = CaseResult(case)
    try:
        files = read_files(run, case, pictures=False)
    except (ValueError, OSError) as error:
        result.error = str(error)
        return result
    result.notes += files.notes
    result.unit, result.has_truth = files.prediction.unit, files.truth is not None
    if run.truth and case not in run.truth:
        result.notes.append("there is no truth for it")
    unknown = np.setdiff1d(np.unique(files.prediction.voxels), [0, *set().union(*run.classes.values())])
    if unknown.size:
        result.notes.append(f"values that no class has: {', '.join(map(str, unknown[:10]))}")
    ml = float(np.prod(files.prediction.spacing)) / _MM3_IN_ML
    axes = surface_axes(files.prediction.voxels.shape)
    for name, box in class_boxes(run, files).items():
        mask, should = class_masks(run, files, name, box or _NOWHERE)
        voxels, expected = int(mask.sum()), None if should is None else int(should.sum())
        volumes = [None if n is None or files.prediction.flat else n * ml for n in (voxels, expected)]
        scores = Scores(None, None, None)
        if should is not None:
            scores = class_scores(mask, should, files.prediction.spacing, tolerance, axes=axes)
        result.classes.append(
            ClassResult(name, voxels, expected, volumes[0], volumes[1], scores, _remark(voxels, expected))
        )
    return result


def _remark(voxels: int, expected: int | None) -> str:
    if expected is None:
        return "" if voxels else "absent"
    if not voxels:
        return "missed" if expected else "absent in both"
    return "" if expected else "not in the truth"
