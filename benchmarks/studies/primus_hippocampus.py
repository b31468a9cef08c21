"""Primus and SCD-Primus on hippocampus MR, same split and schedule: quality, speed, and pruning without training.

    export nnUNet_raw=... nnUNet_preprocessed=... nnUNet_results=... nnUNet_extTrainer=$PWD/benchmarks/studies/trainers
    for run in Primus Keep50 Keep25 Mask25; do
        nnUNetv2_train 4 3d_fullres 0 -tr nnUNetTrainerStudy$run -device cpu
    done
    python benchmarks/studies/primus_hippocampus.py 4

writes docs/studies/primus-hippocampus.md, its pictures and its CSV. Any other trainer of trainers/primus_study.py
that has been trained is listed too. Seconds are measured here, so the machine should do nothing else; the trainings may
have shared theirs.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from nnunetv2.utilities.dataset_name_id_conversion import convert_id_to_dataset_name
from primus_agreement import middle_crops, model_agreement, trained_network, write_agreement
from primus_measures import (
    Boundary,
    Curve,
    at_equal_time,
    boundary_leaving,
    curve,
    finished,
    step_seconds,
    validation_dice,
    write_curves,
    write_quality,
)
from pruned_agreement import Agreement
from trainers import primus_study

from scd_plugin.bench.machine import machine

DOCS = Path(__file__).parents[2] / "docs" / "studies"
NAME = "primus-hippocampus"
ABOUT = {run: trainer.about for run, trainer in primus_study.TRAINERS.items()}
PRIORS = ("attention", "entropy", "neighbors", "change", "norm", "random")
KEEP = (0.9, 0.75, 0.5, 0.25)
REPEATS = 5
NUM_AGREEMENT = 12
"""validation cases that pruning without training is tried on"""


def main(dataset: str) -> None:
    """Read the trainings that are there, stock Primus among them, measure, and write."""
    torch.set_num_threads(os.cpu_count() or 1)
    name = convert_id_to_dataset_name(int(dataset))
    folders = finished(Path(os.environ["nnUNet_results"]) / name)
    curves = {run: curve(folder) for run, folder in folders.items()}
    quality = {run: validation_dice(folder) for run, folder in folders.items()}
    seconds = step_seconds(folders["Primus"], folders, repeats=REPEATS)
    beside = DOCS / NAME
    beside.mkdir(exist_ok=True)
    write_curves(beside / "curves.csv", curves, seconds["train"])
    write_quality(beside / "quality.csv", quality)
    _draw_curves(curves, seconds["train"])
    preprocessed = Path(os.environ["nnUNet_preprocessed"]) / name
    split = json.loads((preprocessed / "splits_final.json").read_text(encoding="utf-8"))[0]["val"]
    tried = split[:NUM_AGREEMENT]
    cases = preprocessed / "nnUNetPlans_3d_fullres"
    agreements = model_agreement(folders["Primus"], cases, tried, priors=PRIORS, keep_ratios=KEEP)
    write_agreement(agreements, beside / "agreement.csv")
    early = model_agreement(
        folders["Primus"], cases, tried, priors=("entropy",), keep_ratios=KEEP, prune_after=(primus_study.DEPTH // 6,)
    )
    _draw_agreements(agreements)
    parts = [
        _trained_side_by_side(quality, seconds, curves, len(split)),
        _boundaries(_leaving(folders, cases, split)),
        _without_training(agreements),
        _right_after_loading(agreements, early),
    ]
    (DOCS / f"{NAME}.md").write_text("\n".join(part for part in parts if part), encoding="utf-8")


def _leaving(folders: Mapping[str, Path], cases: Path, split: Sequence[str]) -> dict[str, Boundary]:
    """Of every network that prunes."""
    found = {}
    for run, folder in folders.items():
        network, crop = trained_network(folder)
        if hasattr(network, "exit_stages"):
            found[run] = boundary_leaving(network, middle_crops(cases, split, crop))
    return found


def _draw_curves(curves: Mapping[str, Curve], train_seconds: Mapping[str, float]) -> None:
    figure = Figure(figsize=(10, 5), layout="constrained")
    over_steps, over_time = figure.subplots(1, 2, sharey=True)
    for run, one in curves.items():
        steps = [primus_study.STEPS_PER_EPOCH * (epoch + 1) for epoch in range(len(one.running))]
        style = "--" if primus_study.TRAINERS[run].ablation else "-"
        over_steps.plot(steps, one.running, style, label=ABOUT[run])
        over_time.plot([step * train_seconds[run] / 60 for step in steps], one.running, style, label=ABOUT[run])
    over_steps.set_xlabel("training steps")
    over_time.set_xlabel("minutes of training steps on this machine alone")
    over_steps.set_ylabel("validation Dice, running mean of nnU-Net")
    # inside, so many names would cover the curves
    figure.legend(*over_steps.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    for panel in (over_steps, over_time):
        panel.grid(alpha=0.3)
    figure.savefig(DOCS / NAME / "curves.png", dpi=110, metadata={"Software": None})


def _draw_agreements(agreements: Sequence[Agreement]) -> None:
    figure = Figure(figsize=(5.5, 4), layout="constrained")
    panel = figure.subplots()
    for prior in PRIORS:
        found = [result for result in agreements if result.prior == prior]
        panel.plot([result.keep_ratio for result in found], [_mean(result.dice) for result in found], "o-", label=prior)
    panel.set_xlabel("share of tokens kept at each of three stages")
    panel.set_ylabel("Dice with the dense prediction")
    panel.grid(alpha=0.3)
    panel.legend(fontsize=8)
    figure.savefig(DOCS / NAME / "agreement.png", dpi=110, metadata={"Software": None})


def _trained_side_by_side(
    quality: Mapping[str, Mapping[str, float]],
    seconds: Mapping[str, Mapping[str, float]],
    curves: Mapping[str, Curve],
    num_cases: int,
) -> str:
    classes = list(quality["Primus"])
    rows = [
        [
            ABOUT[run],
            *(f"{dice[label]:.3f}" for label in classes),
            *(f"{seconds[mode][run]:.2f}" for mode in ("train", "forward")),
            *(f"{seconds[mode]['Primus'] / seconds[mode][run]:.2f} x" for mode in ("train", "forward")),
        ]
        for run, dice in quality.items()
    ]
    heads = [
        "Network",
        *(f"Dice {label}" for label in classes),
        "training step, s",
        "forward pass, s",
        "training",
        "inference",
    ]
    minutes, by_then = at_equal_time(curves, seconds["train"])
    time_rows = [[ABOUT[run], f"{by_then[run]:.3f}", f"{one.running[-1]:.3f}"] for run, one in curves.items()]
    here, epochs = machine("cpu"), len(curves["Primus"].running)
    return f"""# Primus, pruned: hippocampus MR

Made by `benchmarks/studies/primus_hippocampus.py`; [what SCD-Primus
is](../explanation/scd-primus.md). It was trained as
it was until 30 November 2026, with MTA [behind the last
LayerNorm](../explanation/scd-primus.md#it-is-primus). All networks
have about half the width of Primus S ({primus_study.WIDTH}), {primus_study.DEPTH} blocks and tokens of
{primus_study.PATCH} voxels, of which nnU-Net's crop of this task has 1400. One run each: {epochs} epochs of
{primus_study.STEPS_PER_EPOCH} steps of 2 crops, where nothing else is said, nnU-Net's split (fold 0) and
augmentation, Primus's AdamW at 1e-3. Dice is that of
nnU-Net's validation on {num_cases} cases;
class 1 is the anterior part of the hippocampus, 2 the posterior.
Seconds are medians of {REPEATS} steps taken in turn on
{here["processor"]}, {here["cores"]} cores,
without loading of data.

{_table(heads, rows)}

[Dice per class]({NAME}/quality.csv), [all epochs]({NAME}/curves.csv).

![validation Dice over steps and over minutes]({NAME}/curves.png)

At equal time, when the fastest of the main runs ends, against equal steps; Dice is the running mean that nnU-Net keeps
of crops in training, which lags behind:

{_table(["Network", f"after {minutes:.1f} minutes of steps", "after all steps"], time_rows)}
"""


def _boundaries(leaving: Mapping[str, Boundary]) -> str:
    if not leaving:
        return ""
    rows = [
        [
            ABOUT[run],
            f"{100 * sum(found.leaving):.0f} %",
            f"{100 * found.chance:.0f} %",
            ", ".join(f"{100 * share:.0f} %" for share in found.leaving),
        ]
        for run, found in leaving.items()
    ]
    per_crop = next(iter(leaving.values())).per_crop
    return f"""## Tokens that hold more than one class

The middle crops of the validation cases have {per_crop:.0f} of them each. How many leave, and how many would by chance:

{_table(["Network", "leave", "by chance", "at each stage"], rows)}
"""


def _without_training(agreements: Sequence[Agreement]) -> str:
    def rows(show: Callable[[Agreement], str]) -> list[list[str]]:
        return [
            [prior, *(show(result) for keep in KEEP for result in agreements if _is(result, prior, keep))]
            for prior in PRIORS
        ]

    heads = ["Score", *(f"keep {keep}" for keep in KEEP)]
    return f"""## Pruning the trained dense network without training

Dice between the pruned and the dense prediction, mean of both classes, on the middle crops of
{NUM_AGREEMENT} validation cases; three stages, after a quarter, half and three quarters of the depth. The scores are
[described here](../explanation/scd-primus.md#pruning-without-training).
`random` leaves the choice to chance: what does not beat it is worth nothing. [All numbers]({NAME}/agreement.csv).

{_table(heads, rows(lambda result: f"{_mean(result.dice):.3f}"))}

![Dice with the dense prediction against the share kept]({NAME}/agreement.png)

Multiply-accumulates of a prediction as a share of those of the dense one, and how many times as fast it is:

{_table(heads, rows(_speed))}
"""


def _right_after_loading(agreements: Sequence[Agreement], early: Sequence[Agreement]) -> str:
    # a network that has just been loaded prunes by its prior, and MTA adds nothing to it yet
    ways = {
        "one stage, `entropy`: the default": early,
        "three stages, `attention`": [result for result in agreements if result.prior == "attention"],
    }
    rows = [
        [way, measure, *(show(result) for keep in KEEP for result in found if result.keep_ratio == keep)]
        for way, found in ways.items()
        for measure, show in _MEASURES.items()
    ]
    return f"""## Right after loading

Where `SCDPrimus` starts from a dense checkpoint, before any training: it prunes by its prior, and MTA adds nothing yet.
The difference is the norm of the logits' difference divided by that of the dense logits.

{_table(["", "", *(f"keep {keep}" for keep in KEEP)], rows)}
"""


def _is(result: Agreement, prior: str, keep: float) -> bool:
    return (result.prior, result.keep_ratio) == (prior, keep)


def _speed(result: Agreement) -> str:
    return f"{100 * result.operations:.0f} %, {result.dense_seconds / result.seconds:.2f} x"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *rows])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


_MEASURES: dict[str, Callable[[Agreement], str]] = {
    "relative difference of the logits": lambda result: f"{result.logit_error:.2f}",
    "voxels with the same label": lambda result: f"{100 * result.voxels:.1f} %",
    "Dice with the dense prediction": lambda result: f"{_mean(result.dice):.3f}",
}


if __name__ == "__main__":
    main(sys.argv[1])
