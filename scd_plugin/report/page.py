"""The page itself: what was measured, put into the template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from statistics import median

from jinja2 import Environment, PackageLoader, StrictUndefined

from scd_plugin import __version__
from scd_plugin.report.cases import CaseResult
from scd_plugin.report.charts import Chart
from scd_plugin.report.pictures import Plane
from scd_plugin.report.run import Listing, Run

__all__ = ["PageContent", "render"]

TEMPLATE = "report.html.jinja"
NONE = "-"
_SCORES = {"dice": 3, "surface_dice": 3, "hd95": 1}


@dataclass
class PageContent:
    """All that a page shows; cases are in the order of the page."""

    run: Run
    cases: Sequence[CaseResult]
    colours: Mapping[str, str]
    apart: Mapping[str, Sequence[str]]
    tolerance: float
    command: str
    planes: dict[str, Sequence[Plane]] = field(default_factory=dict)
    """Pictures of a case, by its name; cases without any have a row in the table alone."""
    distribution: Chart | None = None
    curves: Sequence[Chart] = ()
    audit: Chart | None = None


def render(content: PageContent) -> str:
    """Write the page; all text in it is shown and none of it run."""
    environment = Environment(
        loader=PackageLoader("scd_plugin.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["number"] = _number
    readable = [case for case in content.cases if not case.error]
    return environment.get_template(TEMPLATE).render(
        page=content,
        run=content.run,
        cases=content.cases,
        has_truth=any(case.has_truth for case in readable),
        units=" or ".join(sorted({case.unit for case in readable})) or "mm",
        summary=_summary(content, readable),
        stages=[(name, "#{:02x}{:02x}{:02x}".format(*colour)) for name, colour in content.run.stages],
        digits=_SCORES,
        made={"version": __version__, "time": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")},
        absent=NONE,
    )


def _summary(content: PageContent, cases: Sequence[CaseResult]) -> Listing:
    """Median, lowest and highest of each class over the cases."""
    head = ["class", "cases with it", "volume, ml"]
    if has_truth := any(case.has_truth for case in cases):
        head += ["Dice", f"surface Dice at {content.tolerance:g} mm", "HD95, mm"]
    rows = []
    for name in content.run.classes:
        found = [one for case in cases for one in case.classes if one.name == name]
        row = [name, str(sum(one.voxels > 0 for one in found))]
        row.append(_spread([one.ml for one in found if one.voxels], 1))
        if has_truth:
            row += [_spread([getattr(one.scores, score) for one in found], digits) for score, digits in _SCORES.items()]
        rows.append(row)
    return Listing("Classes: median, and lowest to highest", head, rows)


def _spread(values: Sequence[float | None], digits: int) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return NONE
    low, high = (f"{value:.{digits}f}" for value in (min(known), max(known)))
    return f"{median(known):.{digits}f} ({low} to {high})"


def _number(value: float | None, digits: int) -> str:
    return NONE if value is None else f"{value:.{digits}f}"
