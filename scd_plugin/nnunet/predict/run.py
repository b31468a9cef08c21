"""`scd predict`: images in, label maps out, from a model folder of nnU-Net."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from nnunetv2.inference.sliding_window_prediction import compute_gaussian
from torch import nn

from scd_plugin import __version__
from scd_plugin.dataset_layout import left_out
from scd_plugin.folders import check_output_file
from scd_plugin.freed_memory import can_keep_freed_memory, freed_memory_kept
from scd_plugin.networks.cast_weights import cast_weights
from scd_plugin.networks.family import SCDNetwork
from scd_plugin.networks.openvino_network import OpenVINONetwork
from scd_plugin.networks.replay import cuda_graphs_wanted
from scd_plugin.nnunet.model.recipe import NnunetRecipe
from scd_plugin.nnunet.model.trained_model import ModelFolder
from scd_plugin.nnunet.model.trained_network import build_network
from scd_plugin.nnunet.predict.bars import PredictionProgress
from scd_plugin.nnunet.predict.clock import (
    CaseTimes,
    check_same_settings,
    timed_run,
    typed_command,
)
from scd_plugin.nnunet.predict.jobs import TIMES, Case, check_cascade, find_cases, left_to_do
from scd_plugin.nnunet.predict.pipeline import run_pipeline
from scd_plugin.nnunet.predict.resampling import torch_resampling
from scd_plugin.nnunet.predict.settings import PredictSettings
from scd_plugin.nnunet.predict.statistics import rows_in, write_statistics
from scd_plugin.nnunet.predict.steps import Steps
from scd_plugin.nnunet.predict.threads import idle_cores_note, nnunets_threads, pytorch_threads
from scd_plugin.nnunet.predict.windows import WindowPredictor
from scd_plugin.processor import slow_bfloat16_note

__all__ = ["TIMES_FILE", "predict", "record"]

TIMES_FILE = "scd_predict.json"
STATISTICS_FILE = "statistics.csv"


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
    recipe = model.recipe
    ending, endings = recipe.file_ending, recipe.plans.image_reader_writer_class.supported_file_endings
    everything = find_cases(images, output, ending, previous_stage=settings.previous_stage, endings=endings)
    folder = everything[0].output.parent
    if folder.resolve() == model.folder.resolve():
        msg = f"output must be another folder than the model's; both are {folder}"
        raise ValueError(msg)
    if images.is_dir() and (others := _left_out(images, everything, ending, endings)):
        progress.say(f"note: {others}")
    times_file = settings.times or _file_beside(output, everything, TIMES_FILE)
    ran = {"command": typed_command(), "input": str(images.absolute()), "output": str(folder.resolve())}
    ran |= record(model, settings)
    statistics = _file_beside(output, everything, STATISTICS_FILE)
    cases, to_count = everything, list[Case]()
    if settings.keep_existing:
        cases, to_count = _left_to_do(everything, settings, times_file, ran, statistics)
    network = _build_network(model, settings)
    predictor = WindowPredictor(network, recipe, model.weights, settings, mirror_axes=model.mirror_axes)
    predictor.on_windows, predictor.on_window = progress.windows, progress.window
    rows: list[dict[str, Any]] | None = [] if settings.statistics else None
    if not cases and not to_count:
        return []
    for note in filter(None, _notes(settings)):
        progress.say(f"note: {note}")
    _prepare_output(model, output, everything, times_file)
    finished: list[CaseTimes] = []
    try:
        with (
            timed_run(times_file, ran, [case.name for case in cases], finished),
            freed_memory_kept(settings.torch_device) as kept,
            pytorch_threads(settings.torch_device),
            progress.shown(len(cases), len(model.folds)),
        ):
            steps = Steps(model, predictor, progress, finished, keeps_freed_memory=kept, statistics=rows)
            for case in to_count:
                steps.count_written(case)
            if cases:
                run_pipeline(cases, steps, partial(_compile, network, model, settings))
    finally:
        compute_gaussian.cache_clear()
        if rows:
            there = {path.name.removesuffix(ending) for path in folder.iterdir() if path.name.endswith(ending)}
            write_statistics(statistics, rows, list(recipe.channel_names.values()), cases_to_keep=there)
    return sorted(finished, key=lambda times: times.case)


def _left_to_do(
    cases: Sequence[Case], settings: PredictSettings, times: Path, ran: dict[str, Any], statistics: Path
) -> tuple[list[Case], list[Case]]:
    """Choose the cases to predict, and those that stay and whose statistics are missing."""
    left = left_to_do(cases, save_probabilities=settings.save_probabilities)
    stay = [case for case in cases if case not in left]
    check_same_settings(times, ran, [case.name for case in stay])
    if not settings.statistics:
        return left, []
    counted = {row["case"] for row in rows_in(statistics)}
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


def _build_network(model: ModelFolder, settings: PredictSettings) -> nn.Module:
    """Build the network, with the weights of the first fold and the share of tokens that the settings ask for."""
    network = build_network(model)
    if settings.keep is not None:
        if not isinstance(network, SCDNetwork) or not network.pruning_stages():
            msg = f"keep is for networks that prune tokens, and that of {model.trainer_name} prunes none; leave it out"
            raise ValueError(msg)
        network.set_keep_ratio(settings.keep)
    if settings.engine == "openvino":
        return _through_openvino(network, model, settings)
    if settings.network_dtype != "float32":
        cast_weights(network, getattr(torch, settings.network_dtype))
    return network


def _through_openvino(network: nn.Module, model: ModelFolder, settings: PredictSettings) -> nn.Module:
    """Have OpenVINO run the network."""
    compiled = OpenVINONetwork(network, settings.network_dtype, settings.threads or nnunets_threads())
    compiled.load_state_dict(model.weights[0])
    return compiled


def _compile(network: nn.Module, model: ModelFolder, settings: PredictSettings) -> None:
    """Compile the first fold of a network that OpenVINO runs, before the first case waits for it."""
    if isinstance(network, OpenVINONetwork):
        window = (settings.batch, model.recipe.num_channels, *model.recipe.configuration.patch_size)
        network.compile_for(torch.empty(window))


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


def _prepare_output(model: ModelFolder, output: Path, cases: Sequence[Case], times: Path) -> None:
    """Make the folders that are written to."""
    folder = cases[0].output.parent
    folder.mkdir(parents=True, exist_ok=True)
    if cases[0].output != output:
        # nnU-Net's evaluation and post-processing look for them there
        for name in ("dataset.json", "plans.json"):
            shutil.copyfile(model.folder / name, folder / name)
    check_output_file(times, TIMES)
    times.parent.mkdir(parents=True, exist_ok=True)


def record(model: ModelFolder, settings: PredictSettings) -> dict[str, Any]:
    """Describe a run: its settings, what was taken where they leave it open, and what else the times depend on."""
    on_gpu = settings.torch_device.type == "cuda"
    engine = ("openvino",) if settings.engine == "openvino" else ()
    versions = {name: version(name) for name in ("nnunetv2", "torch", *engine)}
    return {
        "model": str(model.folder.resolve()),
        "trainer": model.trainer_name,
        "configuration": model.configuration,
        "mirror_axes": list(model.mirror_axes or ()) if settings.mirroring else [],
        **asdict(settings),
        "folds": list(model.folds),
        "dtype": settings.network_dtype,
        "device": torch.cuda.get_device_name() if on_gpu else f"cpu, {platform.processor() or platform.machine()}",
        "threads": 1 if on_gpu else settings.threads or nnunets_threads(),
        "keeps_freed_memory": not on_gpu and can_keep_freed_memory(),
        "cuda_graphs": on_gpu and cuda_graphs_wanted(),
        # its own is known where it is not installed, too
        "versions": {"python": platform.python_version(), "scd-plugin": __version__, **versions},
    }
