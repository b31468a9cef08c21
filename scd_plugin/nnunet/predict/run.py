"""`scd predict`: images in, label maps out, from a model folder of nnU-Net.

What needs a network is imported when the first case is being prepared: MONAI takes seconds, and preparing doesn't need
it.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from scd_plugin import __version__
from scd_plugin.dataset_layout import left_out
from scd_plugin.folders import check_output_file
from scd_plugin.freed_memory import can_keep_freed_memory, freed_memory_kept
from scd_plugin.measure.stage_colours import FOLDER, SHARES
from scd_plugin.nnunet.model.recipe import NnunetRecipe
from scd_plugin.nnunet.model.trained_model import ModelFolder
from scd_plugin.nnunet.predict.bars import PredictionProgress
from scd_plugin.nnunet.predict.clock import (
    CaseTimes,
    check_same_settings,
    timed_run,
    typed_command,
)
from scd_plugin.nnunet.predict.jobs import TIMES, Case, check_cascade, find_cases, left_to_do
from scd_plugin.nnunet.predict.pipeline import prepared_ahead, run_pipeline
from scd_plugin.nnunet.predict.prepare import Preparation
from scd_plugin.nnunet.predict.resampling import torch_resampling
from scd_plugin.nnunet.predict.settings import PredictSettings
from scd_plugin.nnunet.predict.statistics import rows_in, write_statistics
from scd_plugin.nnunet.predict.threads import idle_cores_note, nnunets_threads, pytorch_threads
from scd_plugin.processor import slow_bfloat16_note
from scd_plugin.quick_imports import quick_imports
from scd_plugin.switches import cuda_graphs_wanted

__all__ = ["TIMES_FILE", "predict", "record"]

TIMES_FILE = "scd_predict.json"
STATISTICS_FILE = "statistics.csv"


@dataclass(frozen=True)
class _Todo:
    """What a run reads and writes."""

    everything: list[Case]
    """Those whose label map is there already, too."""
    cases: list[Case]
    """Those to predict."""
    to_count: list[Case]
    """Those that stay, and whose statistics are missing."""
    folder: Path
    """Of the label maps."""
    times: Path
    statistics: Path
    record: dict[str, Any]
    """What the times depend on."""

    @property
    def is_nothing(self) -> bool:
        """Whether everything is there."""
        return not (self.cases or self.to_count)


def predict(
    images: Path,
    output: Path,
    model_folder: Path,
    settings: PredictSettings | None = None,
    progress: PredictionProgress | None = None,
) -> list[CaseTimes]:
    """Predict every case of a folder, or of one image, to a folder, or a file; one that fails is named, others go on.

    Without settings, predict as `nnUNetv2_predict` does; without a progress, show how far it is on stderr.

    Returns:
        The times of each case that was predicted now, with an error where it failed.

    Raises:
        ValueError: before anything is predicted, if paths, settings or model do not fit.
    """
    settings, progress = settings or PredictSettings(), progress or PredictionProgress()
    images, output = images.expanduser(), output.expanduser()
    model = _read_model(model_folder, settings)
    todo = _what_to_do(images, output, model, settings, progress)
    preparation, finished = Preparation(model, _mirror_axes(model, settings), progress), list[CaseTimes]()
    start = perf_counter()
    with (
        freed_memory_kept(settings.torch_device) as kept,
        pytorch_threads(settings.torch_device),
        prepared_ahead(todo.cases, preparation) as coming,
    ):
        with quick_imports():
            from scd_plugin.nnunet.predict.predictor import compile_ahead, predictor_of
            from scd_plugin.nnunet.predict.steps import Steps

        names, folds = [case.name for case in todo.cases], len(model.folds)
        with predictor_of(model, settings) as predictor:
            if todo.is_nothing:
                return []
            for note in filter(None, _notes(settings)):
                progress.say(f"note: {note}")
            _prepare_output(model, output, todo)
            predictor.on_windows, predictor.on_window = progress.windows, progress.window
            with (
                _statistics_written(todo, model.recipe, settings) as rows,
                timed_run(todo.times, todo.record, names, finished, start),
                progress.shown(len(names), folds),
            ):
                steps = Steps(model, predictor, progress, preparation.times, finished, kept, rows)
                for case in todo.to_count:
                    steps.count_written(case)
                if names:
                    compile_ahead(predictor, model)
                run_pipeline(coming, steps)
    return sorted(finished, key=lambda times: times.case)


def _what_to_do(
    images: Path, output: Path, model: ModelFolder, settings: PredictSettings, progress: PredictionProgress
) -> _Todo:
    """Find the cases and where their label maps go; say which images are left out."""
    recipe = model.recipe
    ending, endings = recipe.file_ending, recipe.plans.image_reader_writer_class.supported_file_endings
    everything = find_cases(images, output, ending, previous_stage=settings.previous_stage, endings=endings)
    folder = everything[0].output.parent
    if folder.resolve() == model.folder.resolve():
        msg = f"output must be another folder than the model's; both are {folder}"
        raise ValueError(msg)
    if images.is_dir() and (others := _left_out(images, everything, ending, endings)):
        progress.say(f"note: {others}")
    times = settings.times or _file_beside(output, everything, TIMES_FILE)
    ran = {"command": typed_command(), "input": str(images.absolute()), "output": str(folder.resolve())}
    ran |= record(model, settings)
    statistics = _file_beside(output, everything, STATISTICS_FILE)
    cases, to_count = everything, list[Case]()
    if settings.keep_existing:
        cases, to_count = _left_to_do(everything, settings, times, ran, statistics)
    return _Todo(everything, cases, to_count, folder, times, statistics, ran)


def _mirror_axes(model: ModelFolder, settings: PredictSettings) -> tuple[int, ...]:
    """Axes over which this run mirrors."""
    return (model.mirror_axes or ()) if settings.mirroring else ()


@contextmanager
def _statistics_written(
    todo: _Todo, recipe: NnunetRecipe, settings: PredictSettings
) -> Iterator[list[dict[str, Any]] | None]:
    """Write the rows that a run adds, if it is asked for them, whether it comes to its end or not."""
    rows: list[dict[str, Any]] | None = [] if settings.statistics else None
    try:
        yield rows
    finally:
        outdated = set() if settings.statistics else _outdated(todo.statistics, todo.cases)
        if rows or outdated:
            ending = recipe.file_ending
            there = {path.name.removesuffix(ending) for path in todo.folder.iterdir() if path.name.endswith(ending)}
            channels = list(recipe.channel_names.values())
            write_statistics(todo.statistics, rows or [], channels, cases_to_keep=there - outdated)


def _outdated(statistics: Path, cases: Sequence[Case]) -> set[str]:
    """Name the cases whose rows are older than their label map."""
    counted = {row["case"] for row in rows_in(statistics)}
    return {
        case.name
        for case in cases
        if case.name in counted and case.output.is_file() and case.output.stat().st_mtime > statistics.stat().st_mtime
    }


def _left_to_do(
    cases: Sequence[Case], settings: PredictSettings, times: Path, ran: dict[str, Any], statistics: Path
) -> tuple[list[Case], list[Case]]:
    """Choose the cases to predict, and those that stay and whose statistics are missing."""
    beside = [folder for folder, asked in ((FOLDER, settings.keep_map), (SHARES, settings.keep_shares)) if asked]
    left = left_to_do(cases, save_probabilities=settings.save_probabilities, beside=beside)
    stay = [case for case in cases if case not in left]
    check_same_settings(times, ran, [case.name for case in stay])
    if not settings.statistics:
        return left, []
    # a run that was killed may have overwritten label maps and not their rows
    counted = {row["case"] for row in rows_in(statistics)} - _outdated(statistics, stay)
    return left, [case for case in stay if case.name not in counted]


def _left_out(images: Path, cases: Sequence[Case], ending: str, endings: Sequence[str]) -> str:
    """Say what a folder of images holds besides the cases; empty if nothing."""
    if not any(case.is_series for case in cases):
        return left_out(images, [image for case in cases for image in case.images], (ending,))
    # series are looked for below the folder too, so that no folder is left out
    others = sorted(path.name for path in images.iterdir() if path.is_file() and path.name.endswith((".nii", *endings)))
    return f"left out of {images}, where DICOM series are taken: {', '.join(others)}" if others else ""


def _read_model(folder: Path, settings: PredictSettings) -> ModelFolder:
    """Read the model, and change its recipe as the settings ask."""
    model = ModelFolder.read(folder, settings.folds or (), settings.checkpoint, trust=settings.trust)
    recipe, configuration = model.recipe, model.configuration
    check_cascade(recipe, configuration, settings.previous_stage)
    if settings.resampling == "torch":
        plans = torch_resampling(recipe.plans.plans, configuration)
        recipe = NnunetRecipe(plans, recipe.dataset, configuration, trust=settings.trust)
    return replace(model, recipe=recipe)


def _notes(settings: PredictSettings) -> Iterator[str | None]:
    """Say why it may be slower on this CPU than it could be."""
    if settings.network_dtype == "bfloat16":
        yield slow_bfloat16_note()
    if settings.threads is None and settings.torch_device.type == "cpu":
        yield idle_cores_note()


def _file_beside(output: Path, cases: Sequence[Case], name: str) -> Path:
    """Say where a file of the whole run goes: to the label maps; with the name of the case before it if that is one."""
    alone = cases[0].output == output
    return cases[0].output.with_name(f"{cases[0].probabilities.stem}_{name}" if alone else name)


def _prepare_output(model: ModelFolder, output: Path, todo: _Todo) -> None:
    """Make the folders that are written to."""
    todo.folder.mkdir(parents=True, exist_ok=True)
    if todo.everything[0].output != output:
        # nnU-Net's evaluation and post-processing look for them there
        for name in ("dataset.json", "plans.json"):
            shutil.copyfile(model.folder / name, todo.folder / name)
    check_output_file(todo.times, TIMES)
    todo.times.parent.mkdir(parents=True, exist_ok=True)


def record(model: ModelFolder, settings: PredictSettings) -> dict[str, Any]:
    """Describe a run: its settings, what was taken where they leave it open, and what else the times depend on."""
    on_gpu = settings.torch_device.type == "cuda"
    engine = ("openvino",) if settings.engine == "openvino" else ()
    versions = {name: version(name) for name in ("nnunetv2", "torch", *engine)}
    return {
        "model": str(model.folder.resolve()),
        "trainer": model.trainer_name,
        "configuration": model.configuration,
        "mirror_axes": list(_mirror_axes(model, settings)),
        **asdict(settings),
        "folds": list(model.folds),
        "dtype": settings.network_dtype,
        "device": torch.cuda.get_device_name() if on_gpu else f"cpu, {platform.processor() or platform.machine()}",
        "threads": 1 if on_gpu else settings.threads or nnunets_threads(),
        "keeps_freed_memory": not on_gpu and can_keep_freed_memory(),
        "cuda_graphs_allowed": on_gpu and cuda_graphs_wanted(),
        # its own is known where it is not installed, too
        "versions": {"python": platform.python_version(), "scd-plugin": __version__, **versions},
    }
