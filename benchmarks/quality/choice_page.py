"""Make the study's page, tables and picture, of its rows.

    python benchmarks/quality/choice_page.py

writes docs/studies/choice-of-tokens.md, and its picture beside it. No number of the tables is typed by hand.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from evaluation import FOUND, RECALL_BINS
from matplotlib.figure import Figure
from mixed_tokens import FILE as MIXED
from plans import STEPS
from study import HERE
from tasks import TASKS

STUDIES = HERE.parents[1] / "docs" / "studies"
NAME = "choice-of-tokens"
UNETR, LIGHT, SUBVOXEL, PRIMUS = "UNETR decoder", "Light decoder", "Sub-voxel decoder", "Primus's decoder"
NNUNET = "nnU-Net's default network"
FAMILIES = {
    NNUNET: "as it plans it for the crop, with its optimizer, learning rate and deep supervision",
    UNETR: "which convolves the image at full resolution beside the tokens",
    LIGHT: "that of the fast sizes, with a single convolution at full resolution",
    SUBVOXEL: "which sees the image at half the resolution",
    PRIMUS: "which sees nothing but tokens, so that all depends on the transformer",
}
"""Decoders, and what they see; a table each."""


class Compared(NamedTuple):
    """A network that prunes, taught by labels, and what it has to beat."""

    pruned: str
    full: str
    """all blocks on all tokens"""
    fewer: str
    """fewer blocks, at about the cost of pruning"""
    taught: str = ""
    """all blocks, that the same labels teach"""
    in_time: str = ""
    """all blocks, trained as long as the pruned network in place of as many steps"""


COMPARED = (
    Compared("guided", "dense", "shallow", "dense-taught"),
    Compared("light-guided", "light-dense", "light-shallow"),
    Compared("subvoxel-guided", "subvoxel-dense", "subvoxel-shallow"),
    Compared("primus-guided", "primus", "primus-shallow", "primus-taught"),
    Compared("primus-guided-gradual", "primus", "primus-shallow-gradual", "primus-taught"),
    Compared("primus-guided-half", "primus", "primus-shallow-half", "primus-taught", "primus in "),
)
_MARKERS = "ov^<>sp*XDdPh"
"""Those that one can tell apart."""
TITLES = {
    "left_atrium": "Left atrium",
    "acdc": "Cardiac MR (ACDC)",
    "hippocampus": "Hippocampus",
    "lesions": "Small lesions, synthetic",
    "demo": "The demo's synthetic CT",
}
NAMES = {
    "dense": "dense twin, 8 blocks",
    "shallow": "dense, fewer blocks",
    "published": "published: the scores learn from the segmentation",
    "guided": "labels teach: more than one class",
    "dense-taught": "dense twin that the same labels teach, at the same blocks",
    "shallow-taught": "dense, fewer blocks, that the same labels teach",
    "guided-foreground": "labels teach: any foreground",
    "guided-heavy": "labels teach with a weight of 1",
    "guided-one": "labels teach, one stage",
    "dense-stem": "dense twin, convolutional stem",
    "shallow-stem": "dense, fewer blocks, convolutional stem",
    "guided-stem": "labels teach, convolutional stem",
    "random": "chance chooses",
    "mask_token": "published, mask tokens in place of MTA",
    "nnunet": "nnU-Net's default network (resolutions in place of blocks)",
    "primus": "Primus, 8 blocks",
    "primus-taught": "Primus that the same labels teach",
    "primus-shallow": "Primus, as many blocks as a quarter costs",
    "primus-pruned": "SCD-Primus, a quarter kept, by entropy and what it learns",
    "primus-guided": "SCD-Primus, a quarter kept, labels teach",
    "primus-pruned-half": "SCD-Primus, a half kept, by entropy and what it learns",
    "primus-shallow-half": "Primus, as many blocks as a half costs",
    "primus-guided-half": "SCD-Primus, a half kept, labels teach",
    "primus-guided-drawn": "SCD-Primus, ratios drawn, here with a half kept, labels teach",
    "primus-shallow-gradual": "Primus, as many blocks as the three steps cost",
    "primus-guided-gradual": "SCD-Primus, a quarter kept in three steps, labels teach",
    **{
        f"{network}{kind}": f"{network.replace('subvoxel', 'sub-voxel')} decoder, {what}"
        for network in ("light", "subvoxel")
        for kind, what in (
            ("-dense", "dense, 8 blocks"),
            ("-shallow", "dense, fewer blocks"),
            ("", "published"),
            ("-guided", "labels teach"),
        )
    },
}
HEAD = """# What the choice of tokens is worth

Made by `benchmarks/quality/choice_page.py` from [the rows]({rows}), one for each training. All networks have a ViT of
width 192 with 6 heads, Primus 4; all of a task and seed see the same crops in the same order (`benchmarks/quality/`).
Dice is the mean of the foreground classes over the validation cases, in per cent; ± is half the distance between the
best and the worst seed. Runs of one network differ by a point and more: a difference of one seed proves nothing.

Mixed tokens hold more than one class. Chance would take as many of them at stage 1 as of all tokens: 75 % where a
quarter stays, 50 % where a half does, 40 % in three steps. GMACs are billions of multiply-accumulates of a crop.
"Labels teach" are networks with [guidance](../explanation/training.md#which-tokens-leave).
"""
SHORT = """## In short

Points of Dice by which a network that prunes, taught by labels, is ahead of one that does not: the mean of the seeds
that both have, and their extremes. "Depth" is the lead of all blocks over the fewer ones: where it is none, pruning has
nothing to keep. A dash is not measured.

{table}
"""
LEADS = (
    "against all blocks",
    "against all blocks, taught too",
    "against all blocks in equal time",
    "against fewer blocks at about its cost",
    "against nnU-Net's default network",
    "depth",
)

Row = Mapping[str, str]


def read(path: Path) -> list[Row]:
    """Rows of finished trainings; those of equal time have the number of steps in their network's name."""
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if not row["error"]]
    return [
        row
        if int(row["steps"]) == STEPS[row["task"]]
        else {**row, "network": f"{row['network']} in {row['steps']} steps"}
        for row in rows
    ]


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Mean of the seeds, and half the distance between their extremes."""
    text = f"{mean(values):.{digits}f}"
    return text if len(values) == 1 else f"{text} ± {(max(values) - min(values)) / 2:.{digits}f}"


def numbers(row: Row, column: str) -> list[float]:
    """A column that holds several numbers."""
    return [float(part) for part in row[column].split()]


def family(network: str) -> str:
    """Name the decoder of a network."""
    starts = {"primus": PRIMUS, "subvoxel": SUBVOXEL, "light": LIGHT, "nnunet": NNUNET}
    return starts.get(re.split("[- ]", network)[0], UNETR)


def rows_of(rows: Sequence[Row], decoder: str) -> list[Row]:
    """Rows of the networks with one decoder."""
    return [row for row in rows if family(row["network"]) == decoder]


def words(network: str) -> str:
    """Say what a network is, and for how many steps it was trained where others had more."""
    name, within, steps = network.partition(" in ")
    return NAMES.get(name, name) + (within and f", {steps}")


def table(rows: Sequence[Row]) -> str:
    """One task and decoder: a line for each network."""
    recall = any(row["recall_by_size"] for row in rows)
    columns = ["Network", "Blocks", "GMACs", "Seeds", "Dice"]
    columns += ["mixed tokens left at stage 1", "foreground tokens left there", "foreground voxels left there"]
    columns += [f"lesions found of {RECALL_BINS[0]} to {RECALL_BINS[3] - 1} voxels"] * recall
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    order = {name: place for place, name in enumerate(NAMES)}
    for network in sorted({row["network"] for row in rows}, key=lambda name: (order.get(name, len(order)), name)):
        mine = [row for row in rows if row["network"] == network]
        cells = [words(network), mine[0]["layers"], f"{float(mine[0]['gmacs']):.1f}", str(len(mine))]
        cells.append(spread([100 * float(row["dice"]) for row in mine]))
        for column in ("left_mixed", "left_foreground", "left_voxels"):
            left = [100 * numbers(row, column)[0] for row in mine if row[column]]
            cells.append(f"{spread(left)} %" if left else "-")
        if recall:
            cells.append(f"{spread([100 * mean(numbers(row, 'recall_by_size')[:3]) for row in mine])} %")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def in_short(rows: Sequence[Row]) -> str:
    """Points of Dice by which pruning is ahead, a line for each task and network."""
    columns = ("Data", "Decoder", "Network", *LEADS)
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for task in TASKS:
        mine = [row for row in rows if row["task"] == task]
        # the number of steps differs from task to task
        timed = {row["network"] for row in mine if " in " in row["network"]}
        for pruned, full, fewer, also_taught, start in COMPARED:
            in_time = next((name for name in timed if start and name.startswith(start)), "")
            leads = [lead(mine, pruned, other) for other in (full, also_taught, in_time, fewer, "nnunet")]
            if any(leads):
                cells = [TITLES[task], family(pruned).removesuffix(" decoder"), words(pruned)]
                cells += [one or "-" for one in [*leads, lead(mine, full, fewer)]]
                lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def lead(rows: Sequence[Row], one: str, other: str) -> str:
    """Points of Dice by which a network is ahead of another, of the seeds that both have; empty where none is."""
    mine, its = _by_seed(rows, one), _by_seed(rows, other)
    points = [mine[seed] - its[seed] for seed in mine.keys() & its.keys()]
    if not points:
        return ""
    extremes = f"{min(points):+.1f} to {max(points):+.1f}" if len(points) > 1 else "one seed"
    return f"{mean(points):+.1f} ({extremes})"


def _by_seed(rows: Sequence[Row], network: str) -> dict[str, float]:
    return {row["seed"]: 100 * float(row["dice"]) for row in rows if row["network"] == network}


def text(rows: Sequence[Row], mixed: Mapping[str, Row]) -> str:
    """The page."""
    sections = [HEAD.format(rows="../../benchmarks/quality/results.csv"), SHORT.format(table=in_short(rows))]
    for name, task in TASKS.items():
        mine = [row for row in rows if row["task"] == name]
        if mine:
            facts = f"Crops of {_times(task.crop)} voxels, tokens of {_times(task.patch)}, {STEPS[name]} steps of "
            facts += f"{task.batch} crops. {_room(mixed[name])}"
            if task.recall:
                facts += f" A lesion is found if {100 * FOUND:.0f} % of its voxels are."
            sections.append(f"## {TITLES[name]}\n\n{facts}\n")
        for decoder, sees in FAMILIES.items():
            if same := rows_of(mine, decoder):
                sections.append(f"**{decoder}**, {sees}:\n\n{table(same)}\n")
    sections.append(f"![Dice against multiply-accumulates]({NAME}.png)\n")
    return "\n".join(sections)


def draw(rows: Sequence[Row], path: Path) -> None:
    """Dice against cost, a panel for each task, a point for each training."""
    tasks = [name for name in TASKS if any(row["task"] == name for row in rows)]
    drawn = {row["network"] for row in rows}
    shown = {network: label for network, label in NAMES.items() if network in drawn}
    figure = Figure(figsize=(4.2 * len(tasks), 4.8), layout="constrained")
    # decoders have a colour, their networks a form
    colours = {decoder: f"C{place}" for place, decoder in enumerate(FAMILIES)}
    forms = {decoder: cycle(_MARKERS) for decoder in FAMILIES}
    looks = {network: (colours[family(network)], next(forms[family(network)])) for network in shown}
    for panel, name in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks):
        # a network looks alike in every panel, and the legend names what is in any of them
        for network, label in shown.items():
            mine = [row for row in rows if row["task"] == name and row["network"] == network]
            costs, dice = [float(row["gmacs"]) for row in mine], [100 * float(row["dice"]) for row in mine]
            colour, marker = looks[network]
            panel.scatter(costs, dice, color=colour, marker=marker, label=label, alpha=0.75)
        panel.set_title(TITLES[name])
        panel.set_xlabel("GMACs of a crop")
        panel.set_ylabel("Dice, %")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", fontsize="small", ncols=2)
    figure.savefig(path, dpi=110)


def _room(counted: Row) -> str:
    """Say how many tokens are mixed, and how many of those a perfect choice would lose."""
    mean_share, most, lost = (100 * float(counted[name]) for name in ("mean", "99 of 100", "must leave, 25% kept"))
    return (
        f"Of a crop's tokens {mean_share:.0f} % are mixed, in 99 of 100 crops at most {most:.0f} %: where a quarter "
        f"stays, a perfect choice loses {lost:.1f} % of them."
    )


def _times(edges: Sequence[int]) -> str:
    return " x ".join(map(str, edges))


if __name__ == "__main__":
    finished = read(HERE / "results.csv")
    with MIXED.open(newline="") as counts:
        counted = {row["task"]: row for row in csv.DictReader(counts)}
    STUDIES.joinpath(f"{NAME}.md").write_text(text(finished, counted), encoding="utf-8")
    draw(finished, STUDIES / f"{NAME}.png")
