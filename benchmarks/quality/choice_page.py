"""Make the study's page, tables and picture, of its rows.

    python benchmarks/quality/choice_page.py

writes docs/studies/choice-of-tokens.md, and its picture beside it. No number of the tables is typed by hand.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from statistics import mean

from evaluation import FOUND, RECALL_BINS
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from mixed_tokens import FILE as MIXED
from study import HERE
from tasks import TASKS

STUDIES = HERE.parents[1] / "docs" / "studies"
NAME = "choice-of-tokens"
UNETR, LIGHT, SUBVOXEL, PRIMUS = "UNETR decoder", "Light decoder", "Sub-voxel decoder", "Primus's decoder"
FAMILIES = {
    UNETR: "which convolves the image at full resolution beside the tokens",
    LIGHT: "that of the fast sizes, with a single convolution at full resolution",
    SUBVOXEL: "which sees the image at half the resolution",
    PRIMUS: "which sees nothing but tokens, so that all depends on the transformer",
}
"""Decoders, and what they see; a table each."""
TRIOS = {
    UNETR: ("dense", "shallow", "guided"),
    LIGHT: ("light-dense", "light-shallow", "light-guided"),
    SUBVOXEL: ("subvoxel-dense", "subvoxel-shallow", "subvoxel-guided"),
    PRIMUS: ("primus", "primus-shallow", "primus-guided"),
}
"""All blocks on all tokens, fewer blocks at the cost of pruning, and pruning taught by labels."""
HALVES = {PRIMUS: ("primus", "primus-shallow-half", "primus-guided-half")}
"""The same where a half of the tokens stays."""
_MARKERS = Line2D.filled_markers[1:]
"""The first is a dot that one hardly sees."""
TITLES = {
    "left_atrium": "Left atrium",
    "acdc": "Cardiac MR (ACDC)",
    "hippocampus": "Hippocampus",
    "lesions": "Small lesions, synthetic",
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
    "primus": "Primus, 8 blocks",
    "primus-shallow": "Primus, as many blocks as a quarter costs",
    "primus-pruned": "SCD-Primus, a quarter kept, by entropy and what it learns",
    "primus-guided": "SCD-Primus, a quarter kept, labels teach",
    "primus-shallow-half": "Primus, as many blocks as a half costs",
    "primus-guided-half": "SCD-Primus, a half kept, labels teach",
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

Mixed tokens hold more than one class. GMACs are billions of multiply-accumulates of a crop. "Labels teach" are networks
with [guidance](../explanation/training.md#which-tokens-leave).
"""

Row = Mapping[str, str]


def read(path: Path) -> list[Row]:
    """Rows of finished trainings."""
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if not row["error"]]


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Mean of the seeds, and half the distance between their extremes."""
    text = f"{mean(values):.{digits}f}"
    return text if len(values) == 1 else f"{text} ± {(max(values) - min(values)) / 2:.{digits}f}"


def numbers(row: Row, column: str) -> list[float]:
    """A column that holds several numbers."""
    return [float(part) for part in row[column].split()]


def family(network: str) -> str:
    """Name the decoder of a network."""
    starts = {"primus": PRIMUS, "subvoxel": SUBVOXEL, "light": LIGHT}
    return starts.get(network.partition("-")[0], UNETR)


def table(rows: Sequence[Row]) -> str:
    """One task and decoder: a line for each network."""
    recall = any(row["recall_by_size"] for row in rows)
    columns = ["Network", "Blocks", "GMACs", "Seeds", "Dice"]
    columns += ["mixed tokens left at stage 1", "foreground tokens left there"]
    columns += [f"lesions found of {RECALL_BINS[0]} to {RECALL_BINS[3] - 1} voxels"] * recall
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    known = [name for name in NAMES if name in {row["network"] for row in rows}]
    for network in [*known, *sorted({row["network"] for row in rows} - set(known))]:
        mine = [row for row in rows if row["network"] == network]
        cells = [NAMES.get(network, network), mine[0]["layers"], f"{float(mine[0]['gmacs']):.1f}", str(len(mine))]
        cells.append(spread([100 * float(row["dice"]) for row in mine]))
        for column in ("left_mixed", "left_foreground"):
            left = [100 * numbers(row, column)[0] for row in mine if row[column]]
            cells.append(f"{spread(left)} %" if left else "-")
        if recall:
            cells.append(f"{spread([100 * mean(numbers(row, 'recall_by_size')[:3]) for row in mine])} %")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def verdict(rows: Sequence[Row], trio: tuple[str, str, str]) -> str:
    """Compare three networks on the seeds that all of them have; empty where there is none."""
    found = [{row["seed"]: 100 * float(row["dice"]) for row in rows if row["network"] == name} for name in trio]
    seeds = sorted(set.intersection(*map(set, found)))
    if not seeds:
        return ""

    def ahead(one: int, other: int) -> str:
        points = [found[one][seed] - found[other][seed] for seed in seeds]
        each = f" ({min(points):+.1f} to {max(points):+.1f})" if len(seeds) > 1 else ""
        return f"{mean(points):+.1f}{each}"

    return (
        f"Points of Dice, seed by seed ({len(seeds)}): depth, all blocks against fewer, {ahead(0, 1)}; pruning taught "
        f"by labels against fewer blocks at about its cost, {ahead(2, 1)}; against all blocks, {ahead(2, 0)}."
    )


def text(rows: Sequence[Row], mixed: Mapping[str, Row]) -> str:
    """The page."""
    sections = [HEAD.format(rows="../../benchmarks/quality/results.csv")]
    for name, task in TASKS.items():
        mine = [row for row in rows if row["task"] == name]
        if mine:
            facts = f"Crops of {_times(task.crop)} voxels, tokens of {_times(task.patch)}, {mine[0]['steps']} steps of "
            facts += f"{task.batch} crops. {_room(mixed[name])} Chance takes 75 % of all tokens at stage 1."
            if task.recall:
                facts += f" A lesion is found if {100 * FOUND:.0f} % of its voxels are."
            sections.append(f"## {TITLES[name]}\n\n{facts}\n")
        for decoder, sees in FAMILIES.items():
            if same := [row for row in mine if family(row["network"]) == decoder]:
                sections.append(f"**{decoder}**, {sees}:\n\n{table(same)}\n")
                if decoder in TRIOS and (compared := verdict(same, TRIOS[decoder])):
                    sections.append(f"{compared}\n")
                if decoder in HALVES and (compared := verdict(same, HALVES[decoder])):
                    sections.append(f"With a half kept. {compared}\n")
    sections.append(f"![Dice against multiply-accumulates]({NAME}.png)\n")
    return "\n".join(sections)


def draw(rows: Sequence[Row], path: Path) -> None:
    """Dice against cost, a panel for each task, a point for each training."""
    tasks = [name for name in TASKS if any(row["task"] == name for row in rows)]
    drawn = {row["network"] for row in rows}
    shown = {network: words for network, words in NAMES.items() if network in drawn}
    figure = Figure(figsize=(4.2 * len(tasks), 4.8), layout="constrained")
    for panel, name in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks):
        # a network looks alike in every panel, and the legend names what is in any of them
        for (network, words), marker in zip(shown.items(), cycle(_MARKERS)):
            mine = [row for row in rows if row["task"] == name and row["network"] == network]
            costs, dice = [float(row["gmacs"]) for row in mine], [100 * float(row["dice"]) for row in mine]
            panel.scatter(costs, dice, marker=marker, label=words, alpha=0.75)
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
