"""Judge trained networks of the study at several keep ratios: Dice and time against the share of tokens kept.

    python benchmarks/quality/study.py --plan dial
    python benchmarks/quality/dial.py --plan dial

A CSV gets one row for each network and ratio. Rows that are there, and runs that are not trained yet, are skipped.
"""

from __future__ import annotations

import csv
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from evaluation import evaluate
from networks import build, gmacs
from plans import PLANS, Run
from results import append
from study import HERE, cases, command_line
from tasks import TASKS, Case

from scd_plugin import SCDUNETR

RATIOS = (0.1, 0.25, 0.5, 0.75, 1.0)
PASSES = 9
MEASURES = (
    "gmacs",
    "seconds_a_crop",
    "dice",
    "dice_by_class",
    "recall_by_size",
    "false_lesions_a_case",
    "lesions_by_size",
)
COLUMNS = (*Run._fields, "keep_ratio", *MEASURES)

logger = logging.getLogger("dial")


@torch.inference_mode()
def seconds_a_crop(network: SCDUNETR, ratios: Sequence[float], passes: int = PASSES) -> dict[float, float]:
    """Median time of forward passes with one crop at each ratio, in turn, after a pass that warms up."""
    network.eval()
    crop, seconds = torch.randn(1, *network.image_shape), {ratio: [] for ratio in ratios}
    for _ in range(passes + 1):
        for ratio in ratios:
            network.set_keep_ratio(ratio)
            start = time.perf_counter()
            network(crop)
            seconds[ratio].append(time.perf_counter() - start)
    return {ratio: median(times[1:]) for ratio, times in seconds.items()}


def judge(run: Run, network: SCDUNETR, validation: list[Case], ratios: list[float]) -> Iterator[dict[str, Any]]:
    """Judge one network at each ratio: rows of the table."""
    seconds = seconds_a_crop(network, ratios)
    for ratio in ratios:
        network.set_keep_ratio(ratio)
        cost = {"gmacs": gmacs(network), "seconds_a_crop": seconds[ratio]}
        scores = evaluate(network, validation, TASKS[run.task])
        dice = sum(scores["dice_by_class"]) / len(scores["dice_by_class"])
        yield {**run._asdict(), "keep_ratio": ratio, **cost, "dice": dice, **scores}


def judged(path: Path, run: Run) -> set[float]:
    """Ratios at which a run has a row."""
    if not path.exists():
        return set()
    fields = {name: str(value) for name, value in run._asdict().items()}
    with path.open(newline="") as file:
        return {float(row["keep_ratio"]) for row in csv.DictReader(file) if fields.items() <= row.items()}


def main() -> None:
    """Go through the trained networks of a plan, or through one of them."""
    parser = command_line(__doc__)
    parser.add_argument("--name", help="of one run alone, such as hippocampus-drawn-0-1000-small")
    parser.add_argument("--results", type=Path, default=HERE / "dial.csv")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(arguments.threads)
    for run in [run._replace(size=arguments.size) for run in PLANS[arguments.plan]()]:
        weights = arguments.weights / f"{run.name}.pt"
        if arguments.name not in (None, run.name) or not weights.exists():
            continue
        ratios = sorted(set(RATIOS) - judged(arguments.results, run))
        network = build(run.network, TASKS[run.task], run.size)
        if not network.pruning_stages():
            continue
        network.load_state_dict(torch.load(weights, weights_only=True))
        for row in judge(run, network, cases(run.task, arguments.shared)[1], ratios):
            append(arguments.results, row, COLUMNS)
            logger.info("%s keep %s: Dice %.4f", run.name, row["keep_ratio"], row["dice"])


if __name__ == "__main__":
    main()
