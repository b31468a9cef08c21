"""A folder of label maps, by `scd predict`, `nnUNetv2_predict`, or whatever else, and what lies beside them."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from scd_plugin.channel_files import channel_files
from scd_plugin.measure.stage_colours import COLOURS, FOLDER
from scd_plugin.nnunet.predict.clock import STAGES
from scd_plugin.report.kinds import ENDINGS, files_ending_in
from scd_plugin.report.run import Listing, Run, read_labels, read_object, settings_rows

__all__ = ["add_images", "add_keep_maps", "add_truth", "read_predictions", "references"]

_VOLUMES = tuple(ending for ending in ENDINGS if ending not in (".png", ".bmp"))


def read_predictions(folder: Path) -> Run:
    """Read what a folder of predictions holds; images and truth as far as files there name them."""
    run = Run(f"Predictions: {folder.resolve().name}", folder)
    dataset = read_object(folder / "dataset.json", run.notes)
    ending = dataset.get("file_ending")
    # without a description pictures are rather pictures
    endings = (ending,) if isinstance(ending, str) and ending else _VOLUMES
    run.label_maps = files_ending_in(folder, endings) or files_ending_in(folder, _VOLUMES if dataset else ENDINGS)
    if dataset:
        read_labels(run, dataset.get("labels"), dataset.get("regions_class_order"))
    add_keep_maps(run, folder / FOLDER, endings)
    _read_times(run)
    arguments = read_object(folder / "predict_from_raw_data_args.json", run.notes)
    if arguments:
        run.settings.append(Listing("Arguments of nnUNetv2_predict", ("setting", "value"), settings_rows(arguments)))
        _add_named_images(run, arguments.get("list_of_lists_or_source_folder"))
    run.truth.update(references(read_object(folder / "summary.json", run.notes)))
    plans = read_object(folder / "plans.json", run.notes)
    if plans:
        known = {name: plans.get(name) for name in ("dataset_name", "plans_name", "image_reader_writer")}
        run.settings.append(Listing("Plans", ("setting", "value"), settings_rows(known)))
    return run


def add_images(run: Run, folder: Path) -> None:
    """Find the image of each case, as nnU-Net names them or named as the case, and take its first channel."""
    files = [path.name for path in folder.iterdir() if path.is_file()]
    for ending in ENDINGS:
        for case, names in channel_files([name for name in files if name.lower().endswith(ending)], ending).items():
            run.images.setdefault(case, folder / names[0])
    # files without a number beside others with one, and channels of names that differ in nothing else
    for name, path in files_ending_in(folder, ENDINGS).items():
        run.images.setdefault(name, path)


def add_truth(run: Run, folder: Path) -> None:
    """Find the label map of each case by its name."""
    run.truth.update(files_ending_in(folder, ENDINGS))


def add_keep_maps(run: Run, folder: Path, endings: Sequence[str] = ENDINGS) -> None:
    """Find keep maps, and read the names and colours of their values."""
    if not folder.is_dir():
        return
    run.keep_maps = files_ending_in(folder, endings)
    try:
        lines = (folder / COLOURS).read_text(encoding="utf-8").splitlines()
        words = [line.split() for line in lines if line and not line.startswith("#")]
        run.stages = [(name.replace("_", " "), (int(r), int(g), int(b))) for _, name, r, g, b, _ in words[1:]]
    except (OSError, ValueError):
        run.keep_maps = {}
        run.notes.append(f"keep maps are not shown: {folder / COLOURS}, which names their values, can't be read")


def references(summary: Mapping[str, Any]) -> dict[str, Path]:
    """Return the truth of each case that a summary.json of nnU-Net's evaluation names, as far as it is there."""
    found = {}
    cases = summary.get("metric_per_case")
    for case in cases if isinstance(cases, list) else ():
        if not isinstance(case, dict):
            continue
        prediction, reference = (Path(str(case.get(f"{what}_file"))) for what in ("prediction", "reference"))
        ending = next((one for one in ENDINGS if prediction.name.lower().endswith(one)), "")
        if reference.is_file():
            found[prediction.name.removesuffix(ending)] = reference
    return found


def _add_named_images(run: Run, source: Any) -> None:
    """Take images from where a file says that they were; they may have moved since."""
    path = Path(source) if isinstance(source, str) and source else None
    if path is not None and (folder := path if path.is_dir() else path.parent).is_dir() and path.exists():
        add_images(run, folder)


def _read_times(run: Run) -> None:
    """Read the files of `scd predict` about its runs: where the time went, what failed, and all settings."""
    cases: dict[str, dict[str, Any]] = {}
    wall, settings = 0.0, {}
    files = sorted(run.folder.glob("*scd_predict.json"))
    try:
        for one in (one for file in files for one in read_object(file, run.notes).get("runs", ())):
            settings, wall = dict(one["settings"]), wall + float(one["wall_seconds"] or 0)
            cases |= {case["case"]: case for case in one["cases"]}
        times = _times_listing(list(cases.values()), wall)
    except (KeyError, TypeError, ValueError):
        run.notes.append(f"{', '.join(file.name for file in files)} can't be understood as a file of times")
        return
    if not settings:
        return
    for name, case in cases.items():
        if case.get("error") and name not in run.label_maps:
            run.notes.append(f"{name} was not predicted: {case['error']}")
    _add_named_images(run, settings.get("input"))
    run.listings.append(times)
    versions = settings.pop("versions", None) or {}
    run.settings.append(Listing("Settings of scd predict", ("setting", "value"), settings_rows(settings)))
    run.settings.append(Listing("Versions", ("package", "version"), settings_rows(versions)))


def _times_listing(cases: Sequence[Mapping[str, Any]], wall: float) -> Listing:
    rows = []
    for stage in STAGES:
        seconds = {case["case"]: case["seconds"][stage] for case in cases if stage in case.get("seconds", {})}
        if seconds:
            longest = max(seconds, key=lambda name: seconds[name])
            row = (
                f"{sum(seconds.values()):.1f}",
                f"{median(seconds.values()):.2f}",
                f"{seconds[longest]:.2f}",
                longest,
            )
            rows.append((stage, *row))
    rows.append(("the whole run, stages side by side", f"{wall:.1f}", "", "", ""))
    return Listing("Where the time went, in seconds", ("stage", "sum", "median case", "longest case", "which"), rows)


def read_rows(file: Path) -> list[dict[str, str]]:
    """Read a CSV file with a header; no rows where it is missing."""
    if not file.is_file():
        return []
    with file.open(newline="", encoding="utf-8", errors="replace") as opened:
        return list(csv.DictReader(opened))
