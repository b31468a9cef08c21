"""The charts of a page, as SVG pictures in data URIs."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from scd_plugin.measure.audit_files import audit_figure
from scd_plugin.report.cases import CaseResult, ClassResult
from scd_plugin.report.colours import hexadecimal
from scd_plugin.report.run import Curve

__all__ = ["Chart", "audit_chart", "curve_charts", "distribution"]

# names of data sets are no formulas
_STYLE = {"text.parse_math": False, "svg.fonttype": "path", "font.size": 9, "axes.spines.top": False}
_STYLE |= {"axes.spines.right": False, "svg.hashsalt": "scd"}
_WIDTH = 9.5
# names of outliers that find room beside each other
_NAMED = 3
# classes with which rows stand closer
_MANY = 12
_DICE, _SIZE = "Dice, higher is better", "size, 1 is the median of the class"
_MOST_NAME = 24
_Colours = Mapping[str, tuple[int, int, int]]


@dataclass(frozen=True)
class Chart:
    """A picture, and what it shows in words."""

    uri: str
    alt: str


def distribution(cases: Sequence[CaseResult], colours: _Colours, apart: Mapping[str, Sequence[str]]) -> Chart | None:
    """Draw Dice, where there is truth, and size of each class over all cases; what stands apart has its name."""
    read = [case for case in cases if case.classes]
    if not read or not colours:
        return None
    what = [_DICE] * any(case.has_truth for case in read) + [_SIZE]
    with rc_context(_STYLE):
        figure = Figure(
            figsize=(_WIDTH, 1.0 + (0.5 if len(colours) <= _MANY else 0.28) * len(colours)), layout="constrained"
        )
        panels: Any = np.ravel(figure.subplots(1, len(what), sharey=True))
        for panel, title in zip(panels, what):
            for row, name in enumerate(colours):
                found = (_dice if title == _DICE else _size)(read, name)
                marked = [case for case in found if any(_tells(one, name, title) for one in apart.get(case, ()))]
                _draw_row(panel, row, found, marked, hexadecimal(colours[name]))
            panel.set_xlabel(title)
            panel.grid(axis="x", alpha=0.3)
        panels[0].set_yticks(range(len(colours)), [_short(name) for name in colours])
        panels[0].set_ylim(len(colours) - 0.4, -0.6)
        alt = f"A point for each of {len(read)} cases and each class: {'; '.join(what)}. "
        return _chart(figure, f"{alt}Cases that stand apart: {', '.join(apart) or 'none'}.")


def curve_charts(curves: Sequence[Curve], colours: _Colours) -> list[Chart]:
    """Draw each curve of a training; classes have their colours, other lines are black."""
    charts = []
    for curve in curves:
        with rc_context(_STYLE):
            figure = Figure(figsize=(_WIDTH / 2, 2.8), layout="constrained")
            panel: Any = figure.subplots()
            others = iter(("-", "--", ":"))
            for name, points in curve.lines.items():
                known = name in colours
                style = (
                    {"color": hexadecimal(colours[name])} if known else {"color": "#1b1b1b", "linestyle": next(others)}
                )
                panel.plot(*zip(*points), label=_short(name), marker="." if len(points) < 2 else None, **style)
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
            panel.set(title=curve.title, xlabel=curve.x)
            panel.grid(alpha=0.3)
            if len(curve.lines) > 1:
                panel.legend(fontsize=8)
            ends = ", ".join(f"{name} {points[-1][1]:.3g}" for name, points in curve.lines.items())
            charts.append(_chart(figure, f"{curve.title} over {curve.x}, at the end: {ends}"))
    return charts


def audit_chart(rows: Sequence[Mapping[str, str]]) -> Chart | None:
    """Draw the audit of tokens as a training does."""
    if not rows:
        return None
    with rc_context(_STYLE):
        last = rows[-1]
        shares = {
            kind: 100 * float(last[f"{kind}_left_at_1"]) for kind in ("mixed", "foreground", "background", "chance")
        }
        words = ", ".join(f"{kind} {share:.0f} %" for kind, share in shares.items())
        return _chart(audit_figure(rows), f"Tokens that leave at stage 1, at epoch {last['epoch']}: {words}")


def _of_class(cases: Sequence[CaseResult], name: str) -> dict[str, ClassResult]:
    return {case.name: one for case in cases for one in case.classes if one.name == name}


def _dice(cases: Sequence[CaseResult], name: str) -> dict[str, float]:
    found = {case: one.scores.dice for case, one in _of_class(cases, name).items()}
    return {case: dice for case, dice in found.items() if dice is not None}


def _size(cases: Sequence[CaseResult], name: str) -> dict[str, float]:
    """Sizes as multiples of the median of those that there are, so that large and small classes share an axis."""
    known = _of_class(cases, name)
    found = {case: one.ml for case, one in known.items() if one.ml is not None}
    # where all images are flat
    found = found or {case: float(one.voxels) for case, one in known.items()}
    there = [size for size in found.values() if size]
    return {case: size / median(there) for case, size in found.items()} if there else {}


def _tells(remark: str, name: str, title: str) -> bool:
    """Whether a remark of `outliers` is about a class, and about what an axis shows."""
    return remark in ([f"{name}: low Dice"] if title == _DICE else [f"{name}: small", f"{name}: large"])


def _draw_row(panel: Any, row: int, found: Mapping[str, float], marked: Sequence[str], colour: str) -> None:
    if not found:
        return
    values = np.array(list(found.values()))
    # a point's place across the row follows from its number, so that the same page comes again
    places = row + 0.32 * (np.modf(np.arange(len(values)) * 0.618)[0] - 0.5)
    panel.scatter(values, places, s=14, color=colour, alpha=0.75, linewidths=0)
    low, middle, high = np.percentile(values, (25, 50, 75))
    panel.plot([low, high], [row, row], color="#222222", linewidth=1)
    panel.plot([middle, middle], [row - 0.25, row + 0.25], color="#222222", linewidth=1.6)
    for number, case in enumerate(sorted(marked, key=lambda one: found[one])):
        place = places[list(found).index(case)]
        panel.scatter([found[case]], [place], s=46, facecolors="none", edgecolors="#222222", linewidths=0.9)
        if number < _NAMED:
            side = -1 if found[case] > np.mean(panel.get_xlim()) else 1
            panel.annotate(
                _short(case),
                (found[case], row),
                xytext=(6 * side, 8 - 8 * number),
                textcoords="offset points",
                ha="left" if side > 0 else "right",
                va="center",
                fontsize=7,
            )


def _short(name: str) -> str:
    name = "".join(letter if letter.isprintable() else "?" for letter in name)
    return name if len(name) <= _MOST_NAME else f"{name[: _MOST_NAME - 1]}…"


def _chart(figure: Figure, alt: str) -> Chart:
    packed = io.BytesIO()
    with warnings.catch_warnings():
        # letters that the font has not are drawn as boxes
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        figure.savefig(packed, format="svg", metadata={"Date": None})
    return Chart(f"data:image/svg+xml;base64,{base64.b64encode(packed.getvalue()).decode()}", alt)
