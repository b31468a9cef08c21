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
from leads import hopes, in_short, small_found
from matplotlib.figure import Figure
from mixed_tokens import FILE as MIXED
from names import FAMILIES, NAMES, TITLES, Row, family, numbers, words
from plans import STEPS
from study import HERE
from tasks import TASKS

STUDIES = HERE.parents[1] / "docs" / "studies"
NAME = "choice-of-tokens"
_MARKERS = "ov^<>sp*XDdPh"
"""Those that one can tell apart."""

HEAD = """# What the choice of tokens is worth

Made by `benchmarks/quality/choice_page.py` from [the rows]({rows}), one for each training. All networks have a ViT of
width 192 with 6 heads, Primus 4; all of a task and seed see the same crops in the same order (`benchmarks/quality/`).
Dice is the mean of the foreground classes over the validation cases, in per cent; ± is half the distance between the
best and the worst seed. Runs of one network differ by a point and more: a difference of one seed proves nothing.

SCD-UNETR, "published" too, keeps a quarter at each of three stages, so 1.6 % of the tokens stay to the end. SCD-Primus
has one stage; "in three stages" it keeps 60 %, 65 % and 65 %. Mixed tokens hold more than one class. At the first stage
chance takes 75 % of them where a quarter stays, 50 % where a half does, and 40 % where 60 % do. A perfect choice takes
none as long as there is room; what it has to take is said for each task. GMACs are billions of multiply-accumulates of
a crop. "MTA behind the last LayerNorm" is SCD-Primus as it was until 30 November
2026; [what changed](../explanation/scd-primus.md#it-is-primus).
Trainings are in bfloat16; those "in float32" ran on a processor that has no instructions for it.
"Labels teach" are networks with [guidance](../explanation/training.md#which-tokens-leave), to keep tokens of more than
one class where nothing else is said; by default it is any foreground since 30 November 2026. Voxels that leave were
counted later than the rest: where a network's weights were gone, there are fewer seeds of them, or none.
"""
SHORT = """## In short

Points of Dice by which a network that prunes, taught by labels, is ahead of one that does not: the mean of the seeds
that both have, and their extremes. "Depth" is the lead of all blocks over the fewer ones: where it is none, pruning has
nothing to keep. A dash is not measured.

{table}

What was hoped for at the start, and the mean of the data sets where it was measured, their number in brackets:

{hopes}
"""


def read(path: Path) -> list[Row]:
    """Rows of small networks' finished trainings; those of other steps than `STEPS` have their number in the name."""
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["size"] == "small" and not row["error"]]
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


def rows_of(rows: Sequence[Row], decoder: str) -> list[Row]:
    """Rows of the networks with one decoder."""
    return [row for row in rows if family(row["network"]) == decoder]


def table(rows: Sequence[Row]) -> str:
    """One task and decoder: a line for each network."""
    recall = any(row["recall_by_size"] for row in rows)
    columns = ["Network", "Blocks", "GMACs", "Seeds", "Dice"]
    columns += ["mixed tokens left at stage 1", "foreground tokens left there", "foreground voxels left there"]
    if recall:
        columns += [f"lesions found of {RECALL_BINS[0]} to {RECALL_BINS[3] - 1} voxels", "false lesions a case"]
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    order = {name: place for place, name in enumerate(NAMES)}
    for network in sorted({row["network"] for row in rows}, key=lambda name: (order.get(name, len(order)), name)):
        mine = [row for row in rows if row["network"] == network]
        plain = sum(row["dtype"] == "float32" for row in mine)
        computed = {0: "", len(mine): ", float32"}.get(plain, f", {plain} in float32")
        cells = [words(network), mine[0]["layers"], f"{float(mine[0]['gmacs']):.1f}", f"{len(mine)}{computed}"]
        cells.append(spread([100 * float(row["dice"]) for row in mine]))
        for column in ("left_mixed", "left_foreground", "left_voxels"):
            left = [100 * numbers(row, column)[0] for row in mine if row[column]]
            cells.append(f"{spread(left)} %" if left else "-")
        if recall:
            cells.append(f"{spread([small_found(row) for row in mine])} %")
            cells.append(spread([numbers(row, "false_lesions_a_case")[0] for row in mine]))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def text(rows: Sequence[Row], mixed: Mapping[str, Row]) -> str:
    """The page."""
    sections = [
        HEAD.format(rows="../../benchmarks/quality/results.csv"),
        SHORT.format(table=in_short(rows), hopes=hopes(rows)),
    ]
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
    """Dice against cost, a panel for each task, a point for each training of as many steps as most."""
    tasks = [name for name in TASKS if any(row["task"] == name and row["network"] in NAMES for row in rows)]
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
    names = ("mean", "99 of 100", "must leave, 25% kept", "must leave, 50% kept")
    mean_share, most, quarter, half = (100 * float(counted[name]) for name in names)
    return (
        f"Of a crop's tokens {mean_share:.0f} % are mixed, in 99 of 100 crops at most {most:.0f} %: the best choice "
        f"takes {quarter:.1f} % of them at a stage where a quarter stays, {half:.1f} % where a half does."
    )


def _times(edges: Sequence[int]) -> str:
    return " x ".join(map(str, edges))


def read_mixed() -> dict[str, Row]:
    """Counts of mixed tokens, by task."""
    with MIXED.open(newline="") as counts:
        return {row["task"]: row for row in csv.DictReader(counts)}


if __name__ == "__main__":
    finished, counted = read(HERE / "results.csv"), read_mixed()
    STUDIES.joinpath(f"{NAME}.md").write_text(text(finished, counted), encoding="utf-8")
    draw(finished, STUDIES / f"{NAME}.png")
