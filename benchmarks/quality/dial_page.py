"""Make the page of the dial, of the rows that `dial.py` wrote.

    python benchmarks/quality/dial_page.py

writes docs/studies/dial.md, and its picture beside it. No number of the tables is typed by hand.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from statistics import mean

from choice_page import STUDIES, spread
from choice_page import read as read_study
from matplotlib.figure import Figure
from names import FORMER, FORMERLY, TITLES, Row, family
from study import HERE
from tasks import TASKS

NAME = "dial"
TRAINED = {
    "primus-guided-drawn": "ratios drawn in training",
    "primus-guided": "trained at 0.25",
    "primus-guided-half": "trained at 0.5",
    "drawn": "ratios drawn in training, UNETR decoder",
    "published": "trained at 0.25, UNETR decoder",
    "keep-50": "trained at 0.5, UNETR decoder",
    "keep-75": "trained at 0.75, UNETR decoder",
}
AT = {"primus-guided": "0.25", "primus-guided-half": "0.5", "published": "0.25", "keep-50": "0.5", "keep-75": "0.75"}
"""Ratio that a network was trained at."""
TRAINED |= {f"{name}{FORMER}": f"{label}, {FORMERLY}" for name, label in TRAINED.items() if name.startswith("primus")}
AT |= {f"{name}{FORMER}": ratio for name, ratio in AT.items() if name.startswith("primus")}
HEAD = """# One model, any keep ratio

Made by `benchmarks/quality/dial_page.py` from [the rows]({rows}). A network whose training draws 0.25, 0.5 or 0.75
for each step ([how](../how-to/keep-dial.md)) is judged at five ratios, beside networks that were trained at one, which
is set in bold. They are those of [the choice of tokens](choice-of-tokens.md), which says how they are trained; all have
equally many steps. Dice in per cent, mean of the seeds, ± half the distance between the extremes; of some networks
there are fewer seeds at ratios that are not theirs. Seconds are of a pass with one crop on two cores, the fastest
of the networks, which have the same operations.
"""


def read() -> list[Row]:
    """Rows of `dial.py`, and those of the study for networks that were judged at their own ratio alone."""
    with (HERE / "dial.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return with_own(rows, read_study(HERE / "results.csv"))


def with_own(rows: Sequence[Row], study: Sequence[Row]) -> list[Row]:
    """Add the study's rows of networks on the tasks of the dial, at the ratio that they were trained at."""
    # with the same decoder
    tasks = {(row["task"], family(row["network"])) for row in rows}
    judged = {(row["task"], row["network"], row["seed"]) for row in rows}
    others = [
        {**row, "keep_ratio": AT[row["network"]]}
        for row in study
        if (row["task"], family(row["network"])) in tasks
        and row["network"] in AT
        and (row["task"], row["network"], row["seed"]) not in judged
    ]
    return [*rows, *others]


def table(rows: Sequence[Row]) -> str:
    """One task: a line for each ratio, a column for each network."""
    networks = [name for name in TRAINED if name in {row["network"] for row in rows}]
    columns = ["Kept", "GMACs", "Seconds a crop", *(f"{TRAINED[name]} ({_seeds(rows, name)})" for name in networks)]
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    passes = seconds(rows)
    for ratio in sorted({row["keep_ratio"] for row in rows}, key=float):
        mine = [row for row in rows if row["keep_ratio"] == ratio]
        # all have the same operations
        first = next(row for row in mine if row.get("seconds_a_crop"))
        cells = [ratio, f"{float(first['gmacs']):.1f}", f"{passes[float(ratio)]:.2f}"]
        for name in networks:
            dice = [100 * float(row["dice"]) for row in mine if row["network"] == name]
            # where it was trained
            mark = "**" if AT.get(name) == ratio else ""
            cells.append(f"{mark}{spread(dice)}{mark}" if dice else "-")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def seconds(rows: Sequence[Row]) -> dict[float, float]:
    """Seconds of a pass at each ratio, of the networks' fastest: they were not all measured on one machine."""
    measured = [(float(row["keep_ratio"]), float(row["seconds_a_crop"])) for row in rows if row.get("seconds_a_crop")]
    return {ratio: min(one for at, one in measured if at == ratio) for ratio in sorted({at for at, _ in measured})}


def losses(rows: Sequence[Row]) -> str:
    """Compare drawn ratios with a training for a ratio, seed by seed; empty where nothing can be compared."""
    lines = []
    for name, ratio in AT.items():
        mine = [row for row in rows if row["keep_ratio"] == ratio]
        # of the same network, as it was or as it is
        drawn = {
            row["seed"]: 100 * float(row["dice"])
            for row in mine
            if "drawn" in row["network"] and row["network"].endswith(FORMER) is name.endswith(FORMER)
        }
        points = [
            drawn[row["seed"]] - 100 * float(row["dice"])
            for row in mine
            if row["network"] == name and row["seed"] in drawn
        ]
        if points:
            each = f" ({min(points):+.1f} to {max(points):+.1f})" if len(points) > 1 else ""
            lines.append(f"{TRAINED[name]} {mean(points):+.1f}{each}")
    return f"Points of Dice of drawn ratios, at that ratio, against: {'; '.join(lines)}." if lines else ""


def text(rows: Sequence[Row]) -> str:
    """The page."""
    sections = [HEAD.format(rows="../../benchmarks/quality/dial.csv")]
    for task in _tasks(rows):
        mine = [row for row in rows if row["task"] == task]
        sections.append(f"## {TITLES[task]}\n\n{table(mine)}\n")
        if compared := losses(mine):
            sections.append(f"{compared}\n")
    sections.append(f"![Dice and seconds against the share of tokens kept]({NAME}.png)\n")
    return "\n".join(sections)


def draw(rows: Sequence[Row]) -> Figure:
    """Dice, the mean of each network's seeds, and seconds against the ratio: two panels for each task."""
    tasks = _tasks(rows)
    figure = Figure(figsize=(1 + 3.6 * len(tasks), 6), layout="constrained")
    upper, lower = figure.subplots(2, len(tasks), squeeze=False, sharex=True, height_ratios=(2, 1))
    for above, below, task in zip(upper, lower, tasks):
        judged = [row for row in rows if row["task"] == task]
        for name, label in TRAINED.items():
            mine = [row for row in judged if row["network"] == name]
            if mine:
                above.plot(*_means(mine), "o-", label=label)
        passes = seconds(judged)
        below.plot(passes.keys(), passes.values(), "o-", color="black")
        above.set_title(TITLES[task])
        above.set_ylabel("Dice, %")
        below.set_xlabel("share of tokens kept")
        below.set_ylabel("seconds a crop")
        below.set_ylim(bottom=0)
    # a label for each network, whichever tasks it was judged on
    shown = {label: line for panel in upper for line, label in zip(*panel.get_legend_handles_labels())}
    figure.legend(shown.values(), shown.keys(), loc="outside lower center", fontsize="small")
    return figure


def _means(rows: Sequence[Row]) -> tuple[list[float], list[float]]:
    """Ratios in order, and the mean Dice at each of them, in per cent."""
    ratios = sorted({float(row["keep_ratio"]) for row in rows})
    return ratios, [mean(100 * float(row["dice"]) for row in rows if float(row["keep_ratio"]) == at) for at in ratios]


def _tasks(rows: Sequence[Row]) -> list[str]:
    return [name for name in TASKS if any(row["task"] == name for row in rows)]


def _seeds(rows: Sequence[Row], network: str) -> int:
    return len({row["seed"] for row in rows if row["network"] == network})


if __name__ == "__main__":
    finished = read()
    STUDIES.joinpath(f"{NAME}.md").write_text(text(finished), encoding="utf-8")
    draw(finished).savefig(STUDIES / f"{NAME}.png", dpi=110)
