"""Results as a picture."""

from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from growth_fits import WORK, Series, growth_series, what_grows
from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from reports import report_of

from scd_plugin.bench.contestants import CONTESTANTS
from scd_plugin.bench.results import EntryResult, Results
from scd_plugin.bench.tables import machine_text, measured_text

__all__ = ["colour_of", "draw", "figure_of", "picture_text"]

# inches, and characters that fit: of the title, of the lines below, of a contestant beside its bar
PANEL_WIDTH = 4.8
# beside each other, so that no picture is wider than 1600 pixels
COLUMNS = 3
TITLE_PER_INCH, FOOTER_PER_INCH, CONTESTANT_WIDTH = 13, 21, 30
LINE = 0.15
DPI = 110
MARKERS = "osD^vP*X"
_COLOURS = 20
_MOST_TICKS = 6
# from here on ticks at equal distances would leave the lower half bare
_DECADE = 4


def draw(results: Results, path: Path) -> None:
    """Write the picture of a run as a PNG, whose text fields say where the numbers come from."""
    # without the version of the drawing library in it
    figure_of(results).savefig(path, dpi=DPI, metadata={"Software": None, **picture_text(results)})


def figure_of(results: Results) -> Figure:
    """Bars with extremes for networks side by side, lines on logarithmic axes for growth; command and machine below."""
    figure = _growth(results) if results.grow else _side_by_side(results)
    width, height = figure.get_size_inches()
    above = textwrap.wrap(report_of(results).title(results), int(width * TITLE_PER_INCH))
    below = [line for text in _footer(results) for line in textwrap.wrap(text, int(width * FOOTER_PER_INCH))]
    figure.suptitle("\n".join(above), fontsize=10)
    figure.supxlabel("\n".join(below), fontsize=6, x=0.01, ha="left")
    figure.set_size_inches(width, height + LINE * len(above + below))
    return figure


def picture_text(results: Results) -> dict[str, str]:
    """Keywords of PNG files and their text: what a picture shows, by what command, and where."""
    title: str = report_of(results).title(results)
    return {"Title": title, "Description": results.command, "Source": measured_text(results)}


def colour_of(contestant: str) -> str:
    """Return the colour of a network, the same in every picture, whatever its arguments."""
    name = contestant.partition(":")[0].strip()
    names = list(CONTESTANTS)
    number = names.index(name) if name in names else len(names)
    return to_hex(colormaps["tab20"](number % _COLOURS))


def _footer(results: Results) -> list[str]:
    """The lines below a picture: the command, then machine, date and the versions that matter most."""
    versions = results.versions
    with_what = ", ".join(f"{name} {versions[name]}" for name in ("scd_plugin", "torch") if versions.get(name))
    return [results.command, f"{machine_text(results)}; {results.created}; {with_what}"]


def _side_by_side(results: Results) -> Figure:
    names = {
        "forward": "inference, windows/s: higher is better",
        "train": "training, steps/s: higher is better",
        "case": "whole case, s: lower is better",
    }
    entries = results.entries
    modes = [mode for mode in names if any(mode in entry.modes for entry in entries)]
    lines = sum(_folded(entry.contestant.label).count("\n") + 1 for entry in entries)
    figure, panels = _panels(len(modes), height=1 + 0.25 * len(entries) + LINE * lines)
    for panel, mode in zip(panels, modes):
        _bars(panel, [entry for entry in entries if mode in entry.modes], mode)
        panel.set_xlabel(names[mode])
    return figure


def _bars(panel: Any, entries: Sequence[EntryResult], mode: str) -> None:
    rates = [[_shown(entry, mode, seconds) for seconds in entry.modes[mode].seconds] for entry in entries]
    middles = [median(each) for each in rates]
    ends = [
        [middle - min(each) for middle, each in zip(middles, rates)],
        [max(each) - middle for middle, each in zip(middles, rates)],
    ]
    labels = [_folded(entry.contestant.label) for entry in entries]
    bars = panel.barh(labels, middles, xerr=ends, capsize=3, color=[colour_of(label) for label in labels])
    panel.bar_label(bars, [f"{middle:.3g}" for middle in middles], padding=4, fontsize=8)
    # for the numbers behind the bars
    panel.margins(x=0.2)
    panel.invert_yaxis()
    panel.tick_params(axis="y", labelsize=8)
    panel.grid(axis="x", alpha=0.3)


def _shown(entry: EntryResult, mode: str, seconds: float) -> float:
    """Windows or steps a second; a case takes long enough to be shown in seconds."""
    if mode == "case":
        return seconds
    return (entry.batch if mode == "forward" else 1) / seconds


def _growth(results: Results) -> Figure:
    work = WORK[what_grows(results)].called
    series = [each for each in growth_series(results) if each.work]
    costs = list(dict.fromkeys(each.cost for each in series))
    figure, panels = _panels(len(costs), height=4.2)
    for panel, cost in zip(panels, costs):
        mine = [each for each in series if each.cost == cost]
        for each, marker in zip(mine, itertools.cycle(MARKERS)):
            _line(panel, each, marker)
        panel.set_xscale("log")
        panel.set_yscale("log")
        values = sorted({amount for each in mine for amount in each.work})
        for axis, numbers in ((panel.xaxis, values), (panel.yaxis, [one for each in mine for one in each.amounts])):
            wide = max(numbers) > _DECADE * min(numbers)
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)) if wide else MaxNLocator(5))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_locator(NullLocator())
        if len(values) <= _MOST_TICKS:
            panel.set_xticks(values)
        panel.tick_params(labelsize=8)
        panel.set_xlabel(work)
        panel.set_title(f"{cost}: lower is better", fontsize=10)
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8)
    return figure


def _line(panel: Any, series: Series, marker: str) -> None:
    exponent = f", exponent {series.fit.exponent:.2f}" if series.fit else ""
    if series.fit and series.fit.r_squared is None:
        exponent += " of two points"
    look = {"marker": marker, "color": colour_of(series.contestant)}
    panel.plot(series.work, series.amounts, linestyle="none", label=f"{_folded(series.contestant)}{exponent}", **look)
    if series.fit:
        fitted = [series.fit.factor * work**series.fit.exponent for work in series.work]
        panel.plot(series.work, fitted, "-", color=look["color"], linewidth=1)


def _folded(contestant: str) -> str:
    """In lines that fit beside its bar, cut after arguments."""
    lines = [""]
    for piece in re.findall(r"[^:,]+[:,]?", contestant):
        if lines[-1] and len(lines[-1]) + len(piece) > CONTESTANT_WIDTH:
            lines.append("")
        lines[-1] += piece
    return "\n".join(lines)


def _panels(number: int, *, height: float) -> tuple[Figure, list[Any]]:
    columns = min(max(1, number), COLUMNS)
    rows = -(-max(1, number) // columns)
    figure = Figure(figsize=(PANEL_WIDTH * columns, height * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for empty in panels[max(1, number) :]:
        empty.remove()
    return figure, panels[: max(1, number)]
