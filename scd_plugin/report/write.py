"""From a folder to a page: reads, measures, ranks, draws and writes."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from rich.console import Console
from rich.progress import track

from scd_plugin.channel_files import without_channel
from scd_plugin.measure.audit_files import TABLE, read_audit
from scd_plugin.nnunet.predict.clock import typed_command
from scd_plugin.report.bundle import POSTFIX, add_evaluation, read_bundle
from scd_plugin.report.cases import CaseResult, measure, read_files
from scd_plugin.report.charts import Chart, audit_chart, curve_charts, distribution
from scd_plugin.report.colours import class_colours, hexadecimal
from scd_plugin.report.kinds import BUNDLE, PICTURES, PREDICTIONS, TOLERANCE, TRAINING, check_paths, kind_of
from scd_plugin.report.page import PageContent, render
from scd_plugin.report.pictures import Plane, planes
from scd_plugin.report.predictions import add_images, add_truth, read_predictions
from scd_plugin.report.ranking import outliers, worst_first
from scd_plugin.report.run import Run
from scd_plugin.report.training import read_training
from scd_plugin.report.volume import read_label_map
from scd_plugin.whole_files import moved_into_place

__all__ = ["Written", "find_run", "write_report"]

# each holds the volumes of a case
THREADS = 4
# of label maps without names
MOST_VALUES = 256
Step = TypeVar("Step")


@dataclass(frozen=True)
class Written:
    """The page, the cases on it, how many of them with pictures, and those that can't be read."""

    path: Path
    cases: int
    shown: int
    unreadable: tuple[str, ...] = ()


def write_report(
    folder: Path,
    output: Path | None = None,
    *,
    images: Path | None = None,
    truth: Path | None = None,
    pictures: int = PICTURES,
    tolerance: float = TOLERANCE,
) -> Written:
    """Write the page of a folder of predictions, a fold of a training, or a bundle.

    Args:
        folder: see `kind_of`.
        output: the file; `report.html` in the folder without it.
        images: folder of the images, where they are not found otherwise.
        truth: folder of the label maps that should have come out.
        pictures: how many cases are shown with pictures, the worst first.
        tolerance: mm that surfaces may lie apart, for the surface Dice.

    Raises:
        ValueError: if the paths or numbers can't be used. What is wrong with single files stands in the page.
        OSError: a sentence, if the page can't be written.
    """
    path = check_paths(folder, output, images, truth, pictures=pictures, tolerance=tolerance)
    run = find_run(folder, images=images, truth=truth)
    measured = _measured(run, tolerance)
    cases, apart = worst_first(measured), outliers(measured)
    colours = class_colours(run.classes)
    page = PageContent(
        run, cases, {name: hexadecimal(one) for name, one in colours.items()}, apart, tolerance, typed_command()
    )
    chosen = [case for case in cases if not case.error][:pictures]
    page.planes = {case.name: _draw(run, case, colours) for case in _shown(chosen, "pictures")}
    page.distribution = distribution(cases, colours, apart)
    page.curves, page.audit = curve_charts(run.curves, colours), _audit(run)
    with moved_into_place(path) as partial:
        # names of files may hold bytes that are no letters
        partial.write_text(render(page), encoding="utf-8", errors="replace")
    return Written(path, len(cases), len(page.planes), tuple(case.name for case in cases if case.error))


def find_run(folder: Path, *, images: Path | None = None, truth: Path | None = None) -> Run:
    """Read what a folder holds; what the user names goes before what is found."""
    kind = kind_of(folder)
    run = {TRAINING: read_training, BUNDLE: read_bundle, PREDICTIONS: read_predictions}[kind](folder)
    if kind == PREDICTIONS:
        # a bundle's, if it has written elsewhere
        add_evaluation(run)
    for named, known, add in ((images, run.images, add_images), (truth, run.truth, add_truth)):
        if named is not None:
            known.clear()
            add(run, named)
    for found in (run.images, run.truth, run.keep_maps):
        _by_other_names(found, run.label_maps)
    if not run.classes:
        _name_by_values(run)
    _note_what_is_missing(run, images, truth)
    return run


def _by_other_names(found: dict[str, Path], cases: Iterable[str]) -> None:
    """Add, for cases that were not found, what has their name without a bundle's postfix or the channel's number.

    A number may also be a patient's: what several cases would take is no one's, unless its file has the case's name.
    """
    plain = {case: case.removesuffix(POSTFIX) for case in cases}
    takers = Counter(map(without_channel, plain.values()))
    known = dict(found)
    for case, name in plain.items():
        short = without_channel(name)
        file = known.get(name) or known.get(short)
        if case in found or file is None:
            continue
        own = name in known or file.name.startswith(f"{name}.")
        if own or (takers[short] == 1 and file.name.startswith(f"{short}.")):
            found[case] = file


def _name_by_values(run: Run) -> None:
    """Make a class of each value in the label maps, where nothing names them."""
    values: set[int] = set()
    for path in run.label_maps.values():
        # what is wrong with it is said where the case is measured
        with suppress(ValueError, OSError):
            values |= set(np.unique(read_label_map(path).voxels).tolist()) - {0}
    if len(values) > MOST_VALUES:
        run.notes.append(
            f"the label maps hold {len(values)} values, and nothing names them: more than {MOST_VALUES} are those of "
            "images; no class is shown"
        )
        return
    run.classes = {f"label {value}": {value} for value in sorted(values)}
    run.truth_classes = dict(run.classes)
    if values:
        run.notes.append("nothing names the classes here (no dataset.json), so they are called by their values")


def _note_what_is_missing(run: Run, images: Path | None, truth: Path | None) -> None:
    cases = len(run.label_maps)
    for what, found, named in (("image", run.images, images), ("truth", run.truth, truth)):
        missing = [case for case in run.label_maps if case not in found]
        if not missing:
            continue
        option = "--images" if what == "image" else "--truth"
        where = f"in {named}" if named else f"beside the label maps; name its folder with {option}"
        if len(missing) == cases:
            run.notes.append(f"no {what} of any case was found {where}")
        elif what == "image":
            run.notes.append(f"no image of {len(missing)} of {cases} cases was found {where}")


def _audit(run: Run) -> Chart | None:
    try:
        return audit_chart(read_audit(run.folder)) if run.folder.is_dir() else None
    except (KeyError, TypeError, ValueError):
        run.notes.append(f"{run.folder / TABLE} can't be understood; it is left out")
        return None


def _measured(run: Run, tolerance: float) -> list[CaseResult]:
    """Measure all cases, some side by side: most of it is in libraries that let other threads run."""
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool, warnings.catch_warnings():
        # MONAI calls itself with an argument that it has deprecated
        warnings.filterwarnings("ignore", "monai.metrics", FutureWarning)
        waiting = [pool.submit(measure, run, case, tolerance=tolerance) for case in run.label_maps]
        try:
            return [one.result() for one in _shown(waiting, "cases")]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _draw(run: Run, case: CaseResult, colours: dict[str, tuple[int, int, int]]) -> Sequence[Plane]:
    files = read_files(run, case.name, pictures=True)
    case.notes += [note for note in files.notes if note not in case.notes]
    return planes(run, case.name, files, colours)


def _shown(steps: Iterable[Step], what: str) -> Iterable[Step]:
    """Go through steps with a bar on stderr, if that is a terminal."""
    console = Console(stderr=True)
    steps = list(steps)
    return track(steps, what, console=console, transient=True, disable=not console.is_terminal or not steps)
