"""What pruning is worth: points of Dice by which one network of the study is ahead of another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import fsum
from statistics import mean
from typing import NamedTuple

from evaluation import RECALL_BINS
from names import TITLES, Row, family, numbers, words
from plans import EQUAL_TIME, LONG
from tasks import TASKS

LEADS = (
    "against all blocks",
    "against all blocks, taught too",
    "against all blocks in equal time",
    "against fewer blocks at about its cost",
    "against nnU-Net's default network",
    "depth",
)

_TAUGHT = "primus-guided-half-foreground"


class Compared(NamedTuple):
    """A network that prunes, taught by labels, and what it has to beat."""

    pruned: str
    full: str
    """all blocks on all tokens"""
    fewer: str
    """fewer blocks, at about the cost of pruning"""
    taught: str = ""
    """all blocks, that the same labels teach"""
    in_time: bool = False
    """whether all blocks were trained as long as the pruned network, too, in place of as many steps"""


COMPARED = (
    Compared("guided", "dense", "shallow", "dense-taught"),
    Compared("light-guided", "light-dense", "light-shallow"),
    Compared("subvoxel-guided", "subvoxel-dense", "subvoxel-shallow"),
    Compared("primus-guided", "primus", "primus-shallow", "primus-taught"),
    Compared("primus-guided-gradual", "primus", "primus-shallow-gradual", "primus-taught"),
    Compared("primus-guided-half", "primus", "primus-shallow-half", "primus-taught", in_time=True),
    Compared("primus-guided-foreground", "primus", "primus-shallow", "primus-taught"),
    Compared("primus-guided-gradual-foreground", "primus", "primus-shallow-gradual", "primus-taught"),
    Compared(_TAUGHT, "primus", "primus-shallow-half", "primus-taught", in_time=True),
    Compared(*(f"{name} in {LONG} steps" for name in (_TAUGHT, "primus", "primus-shallow-half"))),
    # what it saves is spent: all blocks cost as much
    Compared("primus-guided-half-deep-foreground", "primus", "", "primus-taught"),
    Compared("primus-guided-half-late", "primus", "primus-shallow-half", "primus-taught"),
)


def in_short(rows: Sequence[Row]) -> str:
    """Points of Dice by which pruning is ahead, a line for each task and network."""
    columns = ("Data", "Decoder", "Network", *LEADS)
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for task in TASKS:
        mine = [row for row in rows if row["task"] == task]
        for one in COMPARED:
            others = (one.full, one.taught, _in_time(one, mine), one.fewer, "nnunet")
            leads = [lead(mine, one.pruned, other) for other in others]
            if any(leads):
                cells = [TITLES[task], family(one.pruned).removesuffix(" decoder"), words(one.pruned)]
                cells += [points or "-" for points in [*leads, lead(mine, one.full, one.fewer)]]
                lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def hopes(rows: Sequence[Row]) -> str:
    """What was to be reached, beside the mean of the tasks for each network that has been measured on any."""
    chosen = [one for one in COMPARED if any(row["network"] == one.pruned for row in rows)]
    lines = [f"| Hoped for | {' | '.join(words(one.pruned) for one in chosen)} |", "|---" * (1 + len(chosen)) + "|"]

    def add(hope: str, measure: Callable[[Compared, Sequence[Row]], float | None], form: str) -> None:
        cells = []
        for one in chosen:
            found = [measure(one, [row for row in rows if row["task"] == task]) for task in TASKS]
            values = [value for value in found if value is not None]
            cells.append(f"{mean(values):{form}} ({len(values)})" if values else "-")
        lines.append(f"| {hope} | {' | '.join(cells)} |")

    add("points against all blocks: -0.3 or more", lambda one, mine: ahead(mine, one.pruned, one.full), "+.1f")
    add("the same in equal time: more than 0", lambda one, mine: ahead(mine, one.pruned, _in_time(one, mine)), "+.1f")
    add("points against fewer blocks: 1 or more", lambda one, mine: ahead(mine, one.pruned, one.fewer), "+.1f")
    add(
        "mixed tokens that leave at stage 1: 2 % or less", lambda one, mine: left(mine, one.pruned, "left_mixed"), ".1f"
    )
    add("the same at any stage", lambda one, mine: left(mine, one.pruned, "left_mixed", in_the_end=True), ".1f")
    add(
        "foreground voxels that leave at stage 1: 1 % or less",
        lambda one, mine: left(mine, one.pruned, "left_voxels"),
        ".1f",
    )
    add("points of small lesions found, against all blocks: -1 or more", _found_more, "+.1f")
    return "\n".join(lines)


def _in_time(one: Compared, rows: Sequence[Row]) -> str:
    """Name of all blocks in equal time among a task's rows; empty for none."""
    steps = EQUAL_TIME.get((rows[0]["task"], one.full)) if rows and one.in_time else None
    return f"{one.full} in {steps} steps" if steps else ""


def left(rows: Sequence[Row], network: str, column: str, *, in_the_end: bool = False) -> float | None:
    """Mean per cent that leaves at the first stage, or at any; None where it was not measured."""
    found = [numbers(row, column) for row in rows if row["network"] == network and row[column]]
    return mean(100 * (1 - one[-1] if in_the_end else one[0]) for one in found) if found else None


def _found_more(one: Compared, rows: Sequence[Row]) -> float | None:
    pruned, full = (
        {row["seed"]: small_found(row) for row in rows if row["network"] == name and row["recall_by_size"]}
        for name in (one.pruned, one.full)
    )
    more = [pruned[seed] - full[seed] for seed in pruned.keys() & full.keys()]
    return mean(more) if more else None


def small_found(row: Row) -> float:
    """Per cent of the lesions of less than 65 voxels that are found."""
    sizes = slice(RECALL_BINS.index(65))
    recall, lesions = (numbers(row, column)[sizes] for column in ("recall_by_size", "lesions_by_size"))
    return 100 * fsum(share * count for share, count in zip(recall, lesions)) / fsum(lesions)


def ahead(rows: Sequence[Row], one: str, other: str) -> float | None:
    """Mean lead in points of Dice; None where no seed has both."""
    points = _points(rows, one, other)
    return mean(points) if points else None


def lead(rows: Sequence[Row], one: str, other: str) -> str:
    """Points of Dice by which a network is ahead of another, of the seeds that both have; empty where none is."""
    points = _points(rows, one, other)
    if not points:
        return ""
    extremes = f"{min(points):+.1f} to {max(points):+.1f}" if len(points) > 1 else "one seed"
    return f"{mean(points):+.1f} ({extremes})"


def _points(rows: Sequence[Row], one: str, other: str) -> list[float]:
    mine, its = _by_seed(rows, one), _by_seed(rows, other)
    return [mine[seed] - its[seed] for seed in mine.keys() & its.keys()]


def _by_seed(rows: Sequence[Row], network: str) -> dict[str, float]:
    return {row["seed"]: 100 * float(row["dice"]) for row in rows if row["network"] == network}
