"""Growth as Markdown: exponents of every cost, and the amounts that they were fitted to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from growth_fits import COSTS, WORK, Fit, Series, growth_series, part_series, what_grows

from scd_plugin.bench import tables
from scd_plugin.bench.results import Results
from scd_plugin.bench.tables import NOTHING, circumstances, number, section, table

__all__ = ["markdown", "title"]

VARIED = {"crop": "crop", "keep": "keep_ratio", "batch": "batch"}
"""what grows -> the circumstance that it is"""


def title(results: Results) -> str:
    """One line that tells runs apart: what grows, who takes part, and what was alike."""
    variable = what_grows(results)
    alike = circumstances(results)
    alike.pop(VARIED.get(variable, ""), None)
    if variable == "volume":
        alike["crop"] += f", windows overlap by {results.settings['overlap']}"
    return tables.title(results, f"{results.settings['name']}, growing {WORK[variable].called}", alike.values())


def markdown(results: Results) -> str:
    """Everything that a run tells, below a heading of the second level."""
    work = WORK[what_grows(results)]
    series, parts = growth_series(results), part_series(results)
    costs = _columns(series)
    points = [
        [
            f"`{entry.contestant.label}`",
            number(work.amount(entry)),
            *(number(value) if (value := COSTS[cost](entry)) is not None else NOTHING for cost in costs),
        ]
        for entry in results.entries
    ]
    of_parts = [
        "Exponents of the seconds of each part of a forward pass; attention itself has an exponent of 2 in its tokens:",
        _exponent_table(parts),
    ]
    blocks = [
        f"Exponents: cost grows like ({work.called}) to the power of",
        _exponent_table(series),
        *(of_parts if _columns(parts) else []),
        "Medians that they were fitted to:",
        table(["Network", work.called, *costs], points),
    ]
    return section(results, title(results), blocks)


def _columns(series: Sequence[Series]) -> Mapping[str, Mapping[str, Series]]:
    """What was measured of somebody: cost -> contestant -> series."""
    measured: dict[str, dict[str, Series]] = {}
    for each in series:
        if each.amounts:
            measured.setdefault(each.cost, {})[each.contestant] = each
    order = dict.fromkeys(each.cost for each in series)
    return {cost: measured[cost] for cost in order if cost in measured}


def _exponent_table(series: Sequence[Series]) -> str:
    columns = _columns(series)
    rows = [
        [
            f"`{contestant}`",
            *(_exponent(column[contestant].fit if contestant in column else None) for column in columns.values()),
        ]
        for contestant in dict.fromkeys(each.contestant for each in series)
    ]
    return table(["Network", *columns], rows)


def _exponent(fit: Fit | None) -> str:
    if fit is None:
        return NOTHING
    sureness = "two points alone" if fit.r_squared is None else f"R² {fit.r_squared:.3f}"
    return f"{fit.exponent:.2f} ({sureness})"
