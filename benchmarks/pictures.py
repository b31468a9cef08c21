"""Results as a picture."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from growth_fits import WORK, Series, growth_series, what_grows
from matplotlib.figure import Figure
from reports import report_of

from scd_plugin.bench.results import EntryResult, Results
from scd_plugin.bench.tables import machine_text, measured_text

__all__ = ["draw", "figure_of", "picture_text"]

# inches, and characters that fit: of the title, of the lines below, of a contestant beside its bar
PANEL_WIDTH = 5.2
TITLE_PER_INCH, FOOTER_PER_INCH, CONTESTANT_WIDTH = 13, 21, 30
LINE = 0.15


def draw(results: Results, path: Path) -> None:
    """Write the picture of a run as a PNG, whose text fields say where the numbers come from."""
    # without the version of the drawing library in it
    figure_of(results).savefig(path, dpi=110, metadata={"Software": None, **picture_text(results)})


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


def _footer(results: Results) -> list[str]:
    """The lines below a picture: the command, then machine, date and the versions that matter most."""
    versions = results.versions
    with_what = ", ".join(f"{name} {versions[name]}" for name in ("scd_plugin", "torch") if versions.get(name))
    return [results.command, f"{machine_text(results)}; {results.created}; {with_what}"]


def _side_by_side(results: Results) -> Figure:
    names = {"forward": "inference, windows/s", "train": "training, steps/s", "case": "whole case, s"}
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
    panel.barh([_folded(entry.contestant.label) for entry in entries], middles, xerr=ends, capsize=3, color="tab:blue")
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
        for each in series:
            if each.cost == cost:
                _line(panel, each)
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_xlabel(work)
        panel.set_title(cost, fontsize=10)
        panel.grid(which="both", alpha=0.3)
        panel.legend(fontsize=8)
    return figure


def _line(panel: Any, series: Series) -> None:
    exponent = f", exponent {series.fit.exponent:.2f}" if series.fit else ""
    if series.fit and series.fit.r_squared is None:
        exponent += " of two points"
    (drawn,) = panel.plot(series.work, series.amounts, "o", label=f"{_folded(series.contestant)}{exponent}")
    if series.fit:
        fitted = [series.fit.factor * work**series.fit.exponent for work in series.work]
        panel.plot(series.work, fitted, "-", color=drawn.get_color(), linewidth=1)


def _folded(contestant: str) -> str:
    """In lines that fit beside its bar, cut after arguments."""
    lines = [""]
    for piece in re.findall(r"[^:,]+[:,]?", contestant):
        if lines[-1] and len(lines[-1]) + len(piece) > CONTESTANT_WIDTH:
            lines.append("")
        lines[-1] += piece
    return "\n".join(lines)


def _panels(number: int, *, height: float) -> tuple[Figure, list[Any]]:
    figure = Figure(figsize=(PANEL_WIDTH * max(1, number), height), layout="constrained")
    return figure, list(figure.subplots(1, max(1, number), squeeze=False)[0])
