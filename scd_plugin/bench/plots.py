"""Results as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from scd_plugin.bench.growth import WORK, Series, growth_series
from scd_plugin.bench.results import EntryResult, Results, spread
from scd_plugin.bench.settings import CASE
from scd_plugin.bench.tables import title

__all__ = ["draw", "figure_of"]


def draw(results: Results, path: Path) -> None:
    """Write the picture of a run as a PNG."""
    # without the version of the drawing library in it
    figure_of(results).savefig(path, dpi=110, metadata={"Software": None})


def figure_of(results: Results) -> Figure:
    """Bars with extremes for networks side by side, lines on logarithmic axes for growth."""
    figure = _growth(results) if results["grow"] else _side_by_side(results)
    figure.suptitle(title(results), fontsize=10)
    return figure


def _side_by_side(results: Results) -> Figure:
    names = {"forward": "inference, windows/s", "train": "training, steps/s", CASE: "whole case, s"}
    entries = results["entries"]
    modes = [mode for mode in names if any(mode in entry["modes"] for entry in entries)]
    figure, panels = _panels(len(modes), height=1.2 + 0.4 * len(entries))
    for panel, mode in zip(panels, modes):
        _bars(panel, [entry for entry in entries if mode in entry["modes"]], mode)
        panel.set_xlabel(names[mode])
    return figure


def _bars(panel: Any, entries: Sequence[EntryResult], mode: str) -> None:
    rates = [spread([_shown(entry, mode, seconds) for seconds in entry["modes"][mode]["seconds"]]) for entry in entries]
    middles = [rate.median for rate in rates]
    ends = [[rate.median - rate.low for rate in rates], [rate.high - rate.median for rate in rates]]
    panel.barh([entry["contestant"] for entry in entries], middles, xerr=ends, capsize=3, color="tab:blue")
    panel.invert_yaxis()
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
    (drawn,) = panel.plot(series.work, series.amounts, "o", label=f"{series.contestant}{exponent}")
    if series.fit:
        fitted = [series.fit.factor * work**series.fit.exponent for work in series.work]
        panel.plot(series.work, fitted, "-", color=drawn.get_color(), linewidth=1)


def _panels(number: int, *, height: float) -> tuple[Figure, list[Any]]:
    figure = Figure(figsize=(5.2 * max(1, number), height), layout="constrained")
    return figure, list(figure.subplots(1, max(1, number), squeeze=False)[0])
