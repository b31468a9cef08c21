"""Primus and SCD-Primus on hippocampus MR, same split and schedule: quality, speed, and pruning without training.

    export nnUNet_raw=... nnUNet_preprocessed=... nnUNet_results=... nnUNet_extTrainer=$PWD/docs/studies/trainers
    for run in Primus Keep50 Keep25 Mask25; do
        nnUNetv2_train 4 3d_fullres 0 -tr nnUNetTrainerStudy$run -device cpu
    done
    python docs/studies/primus_hippocampus.py 4

writes primus-hippocampus.md beside this file, its pictures and its CSV. Seconds are measured here, so the machine
should do nothing else; the trainings may have shared theirs.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from matplotlib.figure import Figure
from nnunetv2.utilities.dataset_name_id_conversion import convert_id_to_dataset_name
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from scd_plugin.bench.machine import machine
from scd_plugin.bench.steps import forward_step, random_batch, seconds_per_step, training_step
from scd_plugin.networks.agreement import Agreement
from scd_plugin.nnunet.primus_agreement import model_agreement, write_agreement

sys.path.insert(0, str(Path(__file__).parent / "trainers"))
import primus_study

HERE = Path(__file__).parent
NAME = "primus-hippocampus"
RUNS = {
    "Primus": "stock Primus",
    "Keep50": "SCD-Primus, keep 0.5",
    "Keep25": "SCD-Primus, keep 0.25",
    "Mask25": "mask tokens, keep 0.25",
}
PRIORS = ("attention", "entropy", "neighbors", "change", "norm", "random")
KEEP = (0.9, 0.75, 0.5, 0.25)
REPEATS = 5
NUM_AGREEMENT = 12
"""validation cases that pruning without training is tried on"""


def main(dataset: str) -> None:
    """Read the trainings that are there, stock Primus among them, measure, and write."""
    torch.set_num_threads(os.cpu_count() or 1)
    name = convert_id_to_dataset_name(int(dataset))
    results = Path(os.environ["nnUNet_results"]) / name
    folders = {run: results / f"nnUNetTrainerStudy{run}__nnUNetPlans__3d_fullres" for run in RUNS}
    folders = {
        run: folder for run, folder in folders.items() if (folder / "fold_0" / "validation" / "summary.json").exists()
    }
    curves = {run: _logging(folder)["ema_fg_dice"] for run, folder in folders.items()}
    quality = {run: _validation(folder) for run, folder in folders.items()}
    seconds = _seconds(folders["Primus"])
    (HERE / NAME).mkdir(exist_ok=True)
    _draw_curves(curves, seconds["train"])
    preprocessed = Path(os.environ["nnUNet_preprocessed"]) / name
    split = json.loads((preprocessed / "splits_final.json").read_text(encoding="utf-8"))[0]["val"]
    tried = split[:NUM_AGREEMENT]
    cases = preprocessed / "nnUNetPlans_3d_fullres"
    agreements = model_agreement(folders["Primus"], cases, tried, priors=PRIORS, keep_ratios=KEEP)
    write_agreement(agreements, HERE / NAME / "agreement.csv")
    early = model_agreement(
        folders["Primus"], cases, tried, priors=("entropy",), keep_ratios=KEEP, prune_after=(primus_study.DEPTH // 6,)
    )
    _draw_agreements(agreements)
    page = HERE / f"{NAME}.md"
    page.write_text(_page(quality, seconds, curves, agreements, early, len(split)), encoding="utf-8")


def _logging(folder: Path) -> dict[str, Any]:
    checkpoint = torch.load(folder / "fold_0" / "checkpoint_final.pth", map_location="cpu", weights_only=False)
    logging: dict[str, Any] = checkpoint["logging"]
    return logging


def _validation(folder: Path) -> dict[str, float]:
    """Dice per class, and the mean, over the fold's validation cases."""
    summary = json.loads((folder / "fold_0" / "validation" / "summary.json").read_text(encoding="utf-8"))
    dice = {label: values["Dice"] for label, values in summary["mean"].items()}
    return {**dice, "mean": summary["foreground_mean"]["Dice"]}


def _seconds(model: Path) -> dict[str, dict[str, float]]:
    """Median seconds of a training step and of a forward pass of each network, taken in turn."""
    plans = PlansManager(str(model / "plans.json"))
    configuration = plans.get_configuration("3d_fullres")
    image, label = random_batch(1, 3, configuration.patch_size, batch=2, device="cpu")
    taken: dict[str, dict[str, list[float]]] = {mode: {run: [] for run in RUNS} for mode in ("train", "forward")}
    networks = {
        run: getattr(primus_study, f"nnUNetTrainerStudy{run}").build_network_architecture(
            plans, configuration, 1, 3, False
        )
        for run in RUNS
    }
    for mode, times in taken.items():
        steps = {
            run: training_step(network, image, label, torch.enable_grad, scale=False)
            if mode == "train"
            else forward_step(network, image[:1], torch.inference_mode)
            for run, network in networks.items()
        }
        for turn in range(1 + REPEATS):
            for run, step in steps.items():
                measured = seconds_per_step(step, 1, cuda=False)
                if turn:
                    times[run].append(measured)
    return {mode: {run: median(values) for run, values in times.items()} for mode, times in taken.items()}


def _at_equal_time(
    curves: dict[str, Sequence[float]], train_seconds: dict[str, float]
) -> tuple[float, dict[str, float]]:
    """Minutes of steps that the fastest run takes, and every run's Dice by then."""
    epoch = {run: primus_study.STEPS_PER_EPOCH * train_seconds[run] for run in curves}
    end = min(len(dice) * epoch[run] for run, dice in curves.items())
    return end / 60, {run: dice[max(1, int(end / epoch[run] + 1e-6)) - 1] for run, dice in curves.items()}


def _draw_curves(curves: dict[str, Sequence[float]], train_seconds: dict[str, float]) -> None:
    figure = Figure(figsize=(10, 4), layout="constrained")
    over_steps, over_time = figure.subplots(1, 2, sharey=True)
    for run, dice in curves.items():
        steps = [primus_study.STEPS_PER_EPOCH * (epoch + 1) for epoch in range(len(dice))]
        over_steps.plot(steps, dice, label=RUNS[run])
        over_time.plot([step * train_seconds[run] / 60 for step in steps], dice, label=RUNS[run])
    over_steps.set_xlabel("training steps")
    over_time.set_xlabel("minutes of training steps on this machine alone")
    over_steps.set_ylabel("validation Dice, running mean of nnU-Net")
    over_steps.legend(fontsize=8)
    for panel in (over_steps, over_time):
        panel.grid(alpha=0.3)
    figure.savefig(HERE / NAME / "curves.png", dpi=110, metadata={"Software": None})


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
    figure.savefig(HERE / NAME / "agreement.png", dpi=110, metadata={"Software": None})


def _page(
    quality: dict[str, dict[str, float]],
    seconds: dict[str, dict[str, float]],
    curves: dict[str, Sequence[float]],
    agreements: Sequence[Agreement],
    early: Sequence[Agreement],
    num_cases: int,
) -> str:
    classes = list(quality["Primus"])
    quality_rows = [
        [
            about,
            *(f"{quality[run][label]:.3f}" for label in classes),
            *(f"{seconds[mode][run]:.2f}" for mode in ("train", "forward")),
            *(f"{seconds[mode]['Primus'] / seconds[mode][run]:.2f} x" for mode in ("train", "forward")),
        ]
        for run, about in RUNS.items()
        if run in quality
    ]
    heads = [
        "Network",
        *(f"Dice {label}" for label in classes),
        "training step, s",
        "forward pass, s",
        "training",
        "inference",
    ]
    agreement_rows = [
        [
            prior,
            *(
                f"{_mean(result.dice):.3f}"
                for keep in KEEP
                for result in agreements
                if (result.prior, result.keep_ratio) == (prior, keep)
            ),
        ]
        for prior in PRIORS
    ]
    # a network that has just been loaded prunes by its prior, and MTA adds nothing to it yet
    ways = {
        "one stage, `entropy`: the default": early,
        "three stages, `attention`": [result for result in agreements if result.prior == "attention"],
    }
    loaded_rows = [
        [way, measure, *(show(result) for keep in KEEP for result in found if result.keep_ratio == keep)]
        for way, found in ways.items()
        for measure, show in _MEASURES.items()
    ]
    minutes, by_then = _at_equal_time(curves, seconds["train"])
    time_rows = [[RUNS[run], f"{by_then[run]:.3f}", f"{curves[run][-1]:.3f}"] for run in curves]
    here = machine("cpu")
    epochs = len(curves["Primus"])
    return f"""# Primus, pruned: hippocampus MR

Made by `docs/studies/primus_hippocampus.py`; [what SCD-Primus is](../explanation/scd-primus.md). All networks have
about half the width of Primus S ({primus_study.WIDTH}), {primus_study.DEPTH} blocks and tokens of
{primus_study.PATCH} voxels, of which nnU-Net's crop of this task has 1400. One run each: {epochs} epochs of
{primus_study.STEPS_PER_EPOCH} steps of 2 crops, nnU-Net's split (fold 0) and
augmentation, Primus's AdamW at 1e-3. Dice is that of
nnU-Net's validation on {num_cases} cases. Seconds are medians of {REPEATS} steps taken in turn on
{here["processor"]}, {here["cores"]} cores,
without loading of data.

{_table(heads, quality_rows)}

![validation Dice over steps and over minutes]({NAME}/curves.png)

At equal time, when the fastest run ends, against equal steps; Dice is the running mean that nnU-Net keeps of crops in
training, which lags behind:

{_table(["Network", f"after {minutes:.1f} minutes of steps", "after all steps"], time_rows)}

## Pruning the trained dense network without training

Dice between the pruned and the dense prediction, mean of both classes, on the middle crops of
{NUM_AGREEMENT} validation cases; three stages, after a quarter, half and three quarters of the depth. The scores are
[described here](../explanation/scd-primus.md#pruning-without-training).
`random` leaves the choice to chance: what does not beat it is worth nothing. [All numbers]({NAME}/agreement.csv).

{_table(["Score", *(f"keep {keep}" for keep in KEEP)], agreement_rows)}

![Dice with the dense prediction against the share kept]({NAME}/agreement.png)

## Right after loading

Where `SCDPrimus` starts from a dense checkpoint, before any training: it prunes by its prior, and MTA adds nothing yet.
The difference is the norm of the logits' difference divided by that of the dense logits.

{_table(["", "", *(f"keep {keep}" for keep in KEEP)], loaded_rows)}
"""


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
