"""`scd predict`: images in, label maps out, from a model folder of nnU-Net."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from nnunetv2.inference.sliding_window_prediction import compute_gaussian

from scd_plugin.freed_memory import can_keep_freed_memory, freed_memory_kept, give_freed_memory_back
from scd_plugin.nnunet.model.recipe import NnunetRecipe
from scd_plugin.nnunet.model.trained_model import ModelFolder
from scd_plugin.nnunet.model.trained_network import build_network
from scd_plugin.nnunet.predict.bars import PredictionProgress
from scd_plugin.nnunet.predict.clock import CaseTimes, write_times
from scd_plugin.nnunet.predict.jobs import Case, find_cases, left_out, left_to_do
from scd_plugin.nnunet.predict.pipeline import run_pipeline
from scd_plugin.nnunet.predict.resampling import torch_resampling
from scd_plugin.nnunet.predict.settings import PredictSettings, check_cascade
from scd_plugin.nnunet.predict.steps import Steps
from scd_plugin.nnunet.predict.threads import idle_cores_note, nnunets_threads, pytorch_threads
from scd_plugin.nnunet.predict.windows import WindowPredictor, make_predictor
from scd_plugin.nnunet.trainers.cpu_autocast import slow_bfloat16_note

__all__ = ["TIMES_FILE", "predict"]

TIMES_FILE = "scd_predict.json"
_VERSIONS = ("scd-plugin", "nnunetv2", "torch")


def predict(
    images: Path,
    output: Path,
    model_folder: Path,
    settings: PredictSettings | None = None,
    progress: PredictionProgress | None = None,
) -> list[CaseTimes]:
    """Predict every case; one that fails is named, and the others go on.

    Args:
        images: a folder named as nnU-Net wants it, or one image.
        output: a folder, or a file for one image.
        model_folder: TRAINER__PLANS__CONFIGURATION of nnU-Net's results.
        settings: how; as `nnUNetv2_predict` without them.
        progress: where to show it.

    Returns:
        The times of each case that was predicted now, with an error where it failed.

    Raises:
        ValueError: before anything is predicted, if paths, settings or model do not fit.
    """
    settings, progress = settings or PredictSettings(), progress or PredictionProgress()
    images, output = images.expanduser(), output.expanduser()
    model = ModelFolder.read(model_folder, settings.folds, settings.checkpoint)
    recipe = _recipe(model, settings)
    cases = find_cases(
        images,
        output,
        recipe.file_ending,
        previous_stage=settings.previous_stage,
        endings=recipe.plans.image_reader_writer_class.supported_file_endings,
    )
    if images.is_dir() and (unnamed := left_out(images, cases, recipe.file_ending)):
        named = f"NAME_0000{recipe.file_ending}"
        progress.say(f"note: left out, without a channel number ({named}): {', '.join(unnamed)}")
    if settings.keep_existing:
        cases = left_to_do(cases, save_probabilities=settings.save_probabilities)
    predictor = _predictor(model, recipe, settings)
    if not cases:
        return []
    for note in _notes(settings):
        progress.say(f"note: {note}")
    times_file = _prepare_output(model, output, cases, settings)
    done: list[CaseTimes] = []
    start = perf_counter()
    try:
        with (
            freed_memory_kept(settings.torch_device) as kept,
            pytorch_threads(settings.torch_device),
            progress.shown(len(cases), len(model.folds)),
        ):
            steps = Steps(recipe, predictor, settings.save_probabilities)
            _run(cases, steps, model, done, progress, after_windows=give_freed_memory_back if kept else lambda: None)
    finally:
        compute_gaussian.cache_clear()
        wall = perf_counter() - start
        write_times(times_file, _described(model, settings), done, wall=wall, append=settings.keep_existing)
    return sorted(done, key=lambda times: times.case)


def _recipe(model: ModelFolder, settings: PredictSettings) -> NnunetRecipe:
    check_cascade(model.recipe, model.configuration, settings.previous_stage)
    if settings.resampling == "nnunet":
        return model.recipe
    plans = torch_resampling(model.recipe.plans.plans, model.configuration)
    return NnunetRecipe(plans, model.recipe.dataset, model.configuration)


def _predictor(model: ModelFolder, recipe: NnunetRecipe, settings: PredictSettings) -> WindowPredictor:
    return make_predictor(
        build_network(model),
        recipe,
        model.weights,
        device=settings.torch_device,
        trainer_name=model.trainer_name,
        mirror_axes=model.mirror_axes if settings.mirroring else None,
        step_size=settings.step_size,
        batch=settings.batch,
        skip_empty=settings.skip_empty,
        bfloat16=settings.network_dtype == "bfloat16",
        threads=settings.threads,
    )


def _notes(settings: PredictSettings) -> list[str]:
    """Why it may be slower on this CPU than it could be."""
    if settings.torch_device.type == "cuda":
        return []
    notes = [
        slow_bfloat16_note() if settings.network_dtype == "bfloat16" else None,
        idle_cores_note() if settings.threads is None else None,
    ]
    return [note for note in notes if note is not None]


def _prepare_output(model: ModelFolder, output: Path, cases: Sequence[Case], settings: PredictSettings) -> Path:
    """Make folders; the file for the times."""
    folder = cases[0].output.parent
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / TIMES_FILE
    if cases[0].output == output:
        beside = cases[0].probabilities.with_name(f"{cases[0].probabilities.stem}_{TIMES_FILE}")
    else:
        # nnU-Net's evaluation and post-processing look for them there
        for name in ("dataset.json", "plans.json"):
            shutil.copyfile(model.folder / name, folder / name)
    times = settings.times or beside
    if times.is_dir():
        msg = f"the file for the times must be a file; {times} is a folder"
        raise ValueError(msg)
    times.parent.mkdir(parents=True, exist_ok=True)
    return times


def _run(
    cases: Sequence[Case],
    steps: Steps,
    model: ModelFolder,
    finished: list[CaseTimes],
    progress: PredictionProgress,
    *,
    after_windows: Callable[[], None],
) -> None:
    axes = steps.predictor.allowed_mirroring_axes or ()
    clock = {case: CaseTimes(case.name, model.folds, mirrored_passes=2 ** len(axes)) for case in cases}
    steps.predictor.on_windows, steps.predictor.on_window = progress.windows, progress.window

    def network(case: Case, prepared: Any) -> Any:
        progress.case(case.name)
        predicted = steps.network(prepared, clock[case])
        # what they left is not needed before the next case, and resampling wants larger pieces
        after_windows()
        return predicted

    def done(case: Case, error: Exception | None) -> None:
        times = clock[case]
        if error is not None:
            times.error = times.error or f"{type(error).__name__}: {error}"
            progress.say(f"failed: {case.name}: {times.error}")
        finished.append(times)
        progress.case_done()

    run_pipeline(
        cases,
        prepare=lambda case: steps.prepare(case, clock[case]),
        network=network,
        finish=lambda case, predicted: steps.finish(case, predicted, clock[case]),
        done=done,
    )


def _described(model: ModelFolder, settings: PredictSettings) -> dict[str, Any]:
    """What the times depend on."""
    on_gpu = settings.torch_device.type == "cuda"
    return {
        "model": str(model.folder),
        "trainer": model.trainer_name,
        "configuration": model.configuration,
        "folds": list(model.folds),
        "checkpoint": model.checkpoint,
        "mirror_axes": list(model.mirror_axes or ()) if settings.mirroring else [],
        "step_size": settings.step_size,
        "batch": settings.batch,
        "resampling": settings.resampling,
        "skip_empty": settings.skip_empty,
        "dtype": settings.network_dtype,
        "device": torch.cuda.get_device_name() if on_gpu else f"cpu, {platform.processor() or platform.machine()}",
        "threads": 1 if on_gpu else settings.threads or nnunets_threads(),
        "keeps_freed_memory": not on_gpu and can_keep_freed_memory(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _VERSIONS}},
    }
