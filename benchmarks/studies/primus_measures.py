"""What the study in primus_hippocampus.py reads of its trainings and measures of their networks."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import Tensor
from trainers import primus_study

from scd_plugin import SCDPrimus
from scd_plugin.bench.bench_settings import BenchSettings
from scd_plugin.bench.timed_steps import forward_step, seconds_per_step, training_step
from scd_plugin.nnunet.model.checkpoint import read_checkpoint


@dataclass(frozen=True)
class Curve:
    """Of one training, a number for each epoch; Dice of validation crops, mean of the classes."""

    running: Sequence[float]
    """nnU-Net's running mean"""
    validation: Sequence[float]
    """of the epoch"""


@dataclass(frozen=True)
class Boundary:
    """What becomes of the tokens that hold more than one class."""

    per_crop: float
    leaving: tuple[float, ...]
    """Share of them that leaves, for each pruning stage"""
    chance: float
    """Share of all tokens that leaves"""


def finished(results: Path) -> dict[str, Path]:
    """Model folders of the study's trainings that have been validated, in the order of the trainers."""
    folders = {run: results / f"{primus_study.PREFIX}{run}__nnUNetPlans__3d_fullres" for run in primus_study.TRAINERS}
    return {run: path for run, path in folders.items() if (path / "fold_0" / "validation" / "summary.json").exists()}


def curve(folder: Path) -> Curve:
    """Of a training, from its last checkpoint."""
    checkpoint = read_checkpoint(str(folder / "fold_0" / "checkpoint_final.pth"), needs=("logging",))
    logging: dict[str, Any] = checkpoint["logging"]
    return Curve(running=logging["ema_fg_dice"], validation=logging["mean_fg_dice"])


def validation_dice(folder: Path) -> dict[str, float]:
    """Dice per class, and the mean, over the fold's validation cases."""
    summary = json.loads((folder / "fold_0" / "validation" / "summary.json").read_text(encoding="utf-8"))
    dice = {label: values["Dice"] for label, values in summary["mean"].items()}
    return {**dice, "mean": summary["foreground_mean"]["Dice"]}


def step_seconds(model: Path, runs: Iterable[str], *, repeats: int) -> dict[str, dict[str, float]]:
    """Median seconds of a training step and of a forward pass of each network, taken in turn; by mode, then by run."""
    plans = PlansManager(str(model / "plans.json"))
    configuration = plans.get_configuration("3d_fullres")
    crop = tuple(configuration.patch_size)
    settings = BenchSettings(name="study", in_channels=1, out_channels=3, crop=crop, batch=2, keep_ratio=1)
    networks = {
        run: primus_study.TRAINERS[run].build_network_architecture(plans, configuration, 1, 3, False) for run in runs
    }
    taken: dict[str, dict[str, list[float]]] = {mode: {run: [] for run in networks} for mode in ("train", "forward")}
    for mode, times in taken.items():
        steps = {
            run: training_step(network, settings)
            if mode == "train"
            else forward_step(network, replace(settings, batch=1))
            for run, network in networks.items()
        }
        for turn in range(1 + repeats):
            for run, step in steps.items():
                measured = seconds_per_step(step, 1, cuda=False)
                if turn:
                    times[run].append(measured)
    return {mode: {run: median(values) for run, values in times.items()} for mode, times in taken.items()}


def at_equal_time(curves: Mapping[str, Curve], train_seconds: Mapping[str, float]) -> tuple[float, dict[str, float]]:
    """Minutes of steps that the fastest of the main runs takes, and every run's running Dice by then.

    A run that has ended by then keeps its last.
    """
    epoch = {run: primus_study.STEPS_PER_EPOCH * train_seconds[run] for run in curves}
    end = min(len(one.running) * epoch[run] for run, one in curves.items() if not primus_study.TRAINERS[run].ablation)
    passed = {run: int(end / epoch[run] + 1e-6) for run in curves}
    return end / 60, {run: one.running[min(max(1, passed[run]), len(one.running)) - 1] for run, one in curves.items()}


def boundary_tokens(label: Tensor, grid: Sequence[int]) -> Tensor:
    """Which tokens hold more than one class: (*img_size) labels to (*grid), bool."""
    split = [extent for size, places in zip(label.shape, grid) for extent in (places, size // places)]
    inside = list(range(1, 2 * len(grid), 2))
    tokens = label.reshape(split)
    return tokens.amax(dim=inside) != tokens.amin(dim=inside)


def boundary_leaving(network: SCDPrimus, crops: Iterable[tuple[Tensor, Tensor]]) -> Boundary:
    """At which stages the tokens leave that hold more than one class.

    Args:
        network: in evaluation mode, with pruning stages.
        crops: (1, in_channels, *img_size) images and (1, *img_size) labels; what is negative counts as background.
    """
    mixed, everywhere = [], []
    for image, label in crops:
        stages = network.exit_stages(image)[0]
        mixed.append(stages[boundary_tokens(label[0].clamp_min(0), network.grid_size)])
        everywhere.append(stages.flatten())
    last = len(network.stages)
    counts = torch.bincount(torch.cat(mixed), minlength=last + 1)
    return Boundary(
        per_crop=int(counts.sum()) / len(mixed),
        leaving=tuple((counts[:last] / counts.sum()).tolist()),
        chance=float((torch.cat(everywhere) < last).float().mean()),
    )


def write_curves(path: Path, curves: Mapping[str, Curve], train_seconds: Mapping[str, float]) -> None:
    """One row for each network and epoch; seconds are those of the training steps so far, on this machine alone."""
    rows = [
        [run, i + 1, (i + 1) * primus_study.STEPS_PER_EPOCH * train_seconds[run], *dice]
        for run, one in curves.items()
        for i, dice in enumerate(zip(one.running, one.validation))
    ]
    _write(path, ["network", "epoch", "seconds", "running_dice", "validation_dice"], rows)


def write_quality(path: Path, quality: Mapping[str, Mapping[str, float]]) -> None:
    """One row for each network: Dice per class, and their mean."""
    classes = list(next(iter(quality.values())))
    rows = [[run, *(dice[label] for label in classes)] for run, dice in quality.items()]
    _write(path, ["network", *(f"dice_{label}" for label in classes)], rows)


def _write(path: Path, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows(rows)
