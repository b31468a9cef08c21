"""Train and judge the networks of a plan, one after another, one row of a CSV for each.

    python benchmarks/quality/study.py --plan core

Rows that are there are skipped, and a run that was killed goes on from its last checkpoint, so the same command
continues a study. Several processes may share a plan if each has tasks, networks or seeds of its own (`--tasks`,
`--networks`, `--seeds`).
"""

from __future__ import annotations

import argparse
import logging
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from batches import Batches
from evaluation import evaluate, leaving
from networks import DRAWN, GUIDES, LATE, SIZES, blocks, build, gmacs
from plans import PLANS, SEEDS, Run
from recipes import RECIPES, TRANSFORMER
from results import append, finished
from tasks import TASKS, Case, shared_folder, split
from training import NotFiniteError, save, train

from scd_plugin.measure.cost import parameters
from scd_plugin.processor import bfloat16_instructions

HERE = Path(__file__).parent

logger = logging.getLogger("study")


@lru_cache(maxsize=len(TASKS))
def cases(task: str, shared: Path) -> tuple[list[Case], list[Case]]:
    """Load a task once: training and validation cases."""
    return split(TASKS[task].load(shared), TASKS[task].validation_share)


def study(run: Run, *, shared: Path, weights: Path, device: str) -> dict[str, Any]:
    """Train and judge one network: its row of the table."""
    task = TASKS[run.task]
    training, validation = cases(run.task, shared)
    torch.manual_seed(run.seed)
    network = build(run.network, task, run.size)
    # on other processors it takes ten times as long
    dtype = "bfloat16" if device != "cpu" or bfloat16_instructions() else "float32"
    row: dict[str, Any] = {
        **run._asdict(),
        "batch": task.batch,
        "crop": task.crop,
        "patch": task.patch,
        "layers": blocks(network),
        "gmacs": gmacs(network),
        "parameters": parameters(network),
        "dtype": dtype,
    }
    network.to(device)
    # Primus and nnU-Net's network have none
    if decoder := getattr(network, "decoder", None):
        decoder.to(memory_format=torch.channels_last_3d)
    checkpoint = weights / f"{run.name}.checkpoint"
    # after the network is built: as many random numbers were drawn for each of them
    torch.manual_seed(run.seed)
    try:
        row |= train(
            network,
            Batches(training, task, run.seed),
            steps=run.steps,
            checkpoint=checkpoint,
            guide=GUIDES.get(run.network),
            keep_ratios=DRAWN.get(run.network, ()),
            late=LATE.get(run.network, 0.0),
            recipe=RECIPES.get(run.network, TRANSFORMER),
            dtype=getattr(torch, dtype),
        )
    except NotFiniteError as error:
        row["error"] = error
    else:
        scores = evaluate(network, validation, task)
        row |= {"dice": sum(scores["dice_by_class"]) / len(scores["dice_by_class"]), **scores}
        row |= leaving(network, validation, task)
        save(network.state_dict(), weights / f"{run.name}.pt")
    checkpoint.unlink(missing_ok=True)
    return {**row, "date": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M}"}


def command_line(description: str | None) -> argparse.ArgumentParser:
    """Make a parser with the options that every script of the study has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plan", choices=sorted(PLANS), required=True)
    parser.add_argument("--size", choices=SIZES, default="small", help="of the networks; the pages show the small ones")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch")
    parser.add_argument("--shared", type=Path, default=shared_folder(), help="the folder that holds data/")
    parser.add_argument("--weights", type=Path, default=HERE / "weights", help="checkpoints and trained weights")
    return parser


def main() -> None:
    """Go through a plan."""
    parser = command_line(__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tasks", nargs="+", choices=sorted(TASKS), default=sorted(TASKS), help="of the plan")
    parser.add_argument("--networks", nargs="+", metavar="NAME", help="of the plan; by default all")
    parser.add_argument("--seeds", nargs="+", type=int, choices=SEEDS, default=SEEDS, help="of the plan")
    parser.add_argument("--results", type=Path, default=HERE / "results.csv")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(arguments.threads)
    plan = [run._replace(size=arguments.size) for run in PLANS[arguments.plan]()]
    networks = arguments.networks or [run.network for run in plan]
    if unknown := sorted(set(networks).difference(run.network for run in plan)):
        parser.error(f"plan {arguments.plan} has no network {unknown[0]!r}")
    for run in plan:
        wanted = run.task in arguments.tasks and run.seed in arguments.seeds and run.network in networks
        if not wanted or run in finished(arguments.results):
            continue
        logger.info("start %s", run.name)
        row = study(run, shared=arguments.shared, weights=arguments.weights, device=arguments.device)
        append(arguments.results, row)
        logger.info("done %s: Dice %s", run.name, row.get("dice", row.get("error")))


if __name__ == "__main__":
    main()
