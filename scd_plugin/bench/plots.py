"""Results as a picture."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from scd_plugin.bench.growth import WORK, Series, growth_series
from scd_plugin.bench.origin import footer, picture_text, title
from scd_plugin.bench.results import EntryResult, Results, spread
from scd_plugin.bench.settings import CASE

__all__ = ["draw", "figure_of"]

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
    figure = _growth(results) if results["grow"] else _side_by_side(results)
    width, height = figure.get_size_inches()
    above = textwrap.wrap(title(results), int(width * TITLE_PER_INCH))
    below = [line for text in footer(results) for line in textwrap.wrap(text, int(width * FOOTER_PER_INCH))]
    figure.suptitle("\n".join(above), fontsize=10)
    figure.supxlabel("\n".join(below), fontsize=6, x=0.01, ha="left")
    figure.set_size_inches(width, height + LINE * len(above + below))
    return figure


def _side_by_side(results: Results) -> Figure:
    names = {"forward": "inference, windows/s", "train": "training, steps/s", CASE: "whole case, s"}
    entries = results["entries"]
    modes = [mode for mode in names if any(mode in entry["modes"] for entry in entries)]
    lines = sum(_folded(entry["contestant"]).count("\n") + 1 for entry in entries)
    figure, panels = _panels(len(modes), height=1 + 0.25 * len(entries) + LINE * lines)
    for panel, mode in zip(panels, modes):
        _bars(panel, [entry for entry in entries if mode in entry["modes"]], mode)
        panel.set_xlabel(names[mode])
    return figure


def _bars(panel: Any, entries: Sequence[EntryResult], mode: str) -> None:
    rates = [spread([_shown(entry, mode, seconds) for seconds in entry["modes"][mode]["seconds"]]) for entry in entries]
    middles = [rate.median for rate in rates]
    ends = [[rate.median - rate.low for rate in rates], [rate.high - rate.median for rate in rates]]
    panel.barh([_folded(entry["contestant"]) for entry in entries], middles, xerr=ends, capsize=3, color="tab:blue")
    panel.invert_yaxis()
    panel.tick_params(axis="y", labelsize=8)
    panel.grid(axis="x", alpha=0.3)


def _shown(entry: EntryResult, mode: str, seconds: float) -> float:
    """Windows or steps a second; a case takes long enough to be shown in seconds."""
    if mode == CASE:
        return seconds
    return (entry["batch"] if mode == "forward" else 1) / seconds


def _growth(results: Results) -> Figure:
    grow = results["grow"]
    work = WORK[grow["variable"]][0] if grow else ""
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
