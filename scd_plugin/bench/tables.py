"""Results as Markdown. Pure: the same results make the same text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from scd_plugin.bench.contestants import CONTESTANTS, parse_contestant, twins
from scd_plugin.bench.entries import place
from scd_plugin.bench.growth import COSTS, WORK, Fit, Series, growth_series, part_series
from scd_plugin.bench.origin import measured, title
from scd_plugin.bench.parts import PART_NAMES
from scd_plugin.bench.results import EntryResult, ModeResult, Results, Spread, paired_ratio, spread
from scd_plugin.bench.settings import CASE, CASE_STAGES

__all__ = [
    "case_ratio_table",
    "case_table",
    "growth_tables",
    "markdown",
    "number",
    "parts_table",
    "problem_list",
    "ratio_table",
    "speed_table",
]

NOTHING = "-"
GIGABYTE = 1e9


def markdown(results: Results, *, level: int = 2) -> str:
    """Everything that a run tells: a heading, where it was measured and by what command, tables, and what failed.

    Args:
        results: of a run.
        level: of the heading.
    """
    blocks = [f"{'#' * level} {title(results)}", measured(results), f"```bash\n{results['command']}\n```"]
    if results["grow"]:
        blocks += growth_tables(results)
    elif results["settings"].get("image"):
        names = _names(results)
        blocks.append(case_table(results))
        blocks += [case_ratio_table(results, reference) for reference in [*twins(tuple(names)), *_unets(names)]]
    else:
        blocks.append(speed_table(results))
        blocks += [ratio_table(results, twin) for twin in twins(tuple(_names(results)))]
        blocks.append(parts_table(results))
    return "\n\n".join([*filter(None, blocks), *filter(None, [problem_list(results)])]) + "\n"


def speed_table(results: Results) -> str:
    """Sizes, speed and memory of every contestant: medians, with the extremes of the repeats."""
    head = [
        "Network",
        "Parameters, M",
        "GMACs a window",
        "Inference, windows/s",
        "Training, steps/s",
        "Inference memory, GB",
        "Training memory, GB",
    ]
    rows = [
        [
            f"`{entry['contestant']}`",
            _amount(entry["parameters"], 1e6),
            _amount(entry["macs"], 1e9 * entry["batch"]),
            _with_extremes(_rate(entry, "forward", entry["batch"])),
            _with_extremes(_rate(entry, "train", 1)),
            _memory(entry, "forward"),
            _memory(entry, "train"),
        ]
        for entry in results["entries"]
    ]
    return _table(head, rows) + "\n\n" + _about(results)


def case_table(results: Results) -> str:
    """Seconds of every contestant for a whole image, and for each stage of it: medians, with extremes for the whole."""
    rows = []
    for entry in results["entries"]:
        found = entry["modes"].get(CASE)
        seconds = [
            number(median(turn[stage] for turn in found["stages"])) if found else NOTHING for stage in CASE_STAGES
        ]
        whole = _with_extremes(spread(found["seconds"]) if found else None)
        rows.append([f"`{entry['contestant']}`", whole, *seconds])
    return (
        _table(["Network", "Whole case, s", *(f"{stage}, s" for stage in CASE_STAGES)], rows) + "\n\n" + _about(results)
    )


def case_ratio_table(results: Results, reference: str) -> str:
    """How many times faster than a reference every contestant segments a whole image."""
    theirs = _entry(results, reference)
    rows = [
        [f"`{entry['contestant']}`", _faster(theirs, entry, CASE), _in_both(theirs, entry, CASE, _network_ratio)]
        for entry in results["entries"]
        if entry is not theirs
    ]
    return _table([f"Against `{reference}`", "Whole case", "Network"], rows) if rows else ""


def ratio_table(results: Results, twin: str) -> str:
    """Every contestant against a dense twin: how many times as fast, and what share of memory and operations."""
    reference = _entry(results, twin)
    head = [f"Against `{twin}`", "Inference speed", "Training speed", "Inference memory", "Training memory", "MACs"]
    rows = [
        [
            f"`{entry['contestant']}`",
            *(_faster(reference, entry, mode) for mode in ("forward", "train")),
            *(_memory_share(reference, entry, mode) for mode in ("forward", "train")),
            f"{100 * entry['macs'] / reference['macs']:.0f} %" if entry["macs"] and reference["macs"] else NOTHING,
        ]
        for entry in results["entries"]
        if entry is not reference
    ]
    return _table(head, rows) if rows else ""


def parts_table(results: Results) -> str:
    """Share of the time of a forward pass in each part."""
    described = [entry for entry in results["entries"] if entry["parts"]]
    names = [part for part in PART_NAMES if any(part in entry["parts"] for entry in described)]
    rows = [
        [f"`{entry['contestant']}`"]
        + [f"{100 * entry['parts'][part]:.0f} %" if part in entry["parts"] else NOTHING for part in names]
        for entry in described
    ]
    return _table(["Share of inference time", *names], rows) if rows else ""


def growth_tables(results: Results) -> list[str]:
    """Exponents of every cost, and the amounts that they were fitted to."""
    work, amount = WORK[results["grow"]["variable"]] if results["grow"] else WORK["crop"]
    series = growth_series(results)
    costs = _measured_costs(series)
    points = [
        [
            f"`{entry['contestant']}`",
            number(amount(entry)),
            *(number(value) if (value := COSTS[cost](entry)) is not None else NOTHING for cost in costs),
        ]
        for entry in results["entries"]
    ]
    parts = part_series(results)
    of_parts = [
        "Exponents of the seconds of each part of a forward pass; attention itself has an exponent of 2 in its tokens:",
        _exponent_table(parts),
    ]
    return [
        f"Exponents: cost grows like ({work}) to the power of",
        _exponent_table(series),
        *(of_parts if _measured_costs(parts) else []),
        "Medians that they were fitted to:",
        _table(["Network", work, *costs], points),
    ]


def _measured_costs(series: Sequence[Series]) -> list[str]:
    return [cost for cost in dict.fromkeys(each.cost for each in series) if _of_cost(series, cost)]


def _of_cost(series: Sequence[Series], cost: str) -> dict[str, Series]:
    """By contestant."""
    return {each.contestant: each for each in series if each.cost == cost and each.amounts}


def _exponent_table(series: Sequence[Series]) -> str:
    columns = {cost: _of_cost(series, cost) for cost in _measured_costs(series)}
    rows = [
        [
            f"`{contestant}`",
            *(_exponent(column[contestant].fit if contestant in column else None) for column in columns.values()),
        ]
        for contestant in dict.fromkeys(each.contestant for each in series)
    ]
    return _table(["Network", *columns], rows)


def problem_list(results: Results) -> str:
    """Who has no result, and why."""
    return "\n".join(
        f"- `{entry['contestant']}` at {place(entry['crop'], entry.get('volume'))}, batch {entry['batch']}, "
        f"{mode}: {reason}"
        for entry in results["entries"]
        for mode, reason in entry["problems"].items()
    )


def number(value: float) -> str:
    """Three significant digits, or whole numbers from a thousand on."""
    return f"{value:.0f}" if abs(value) >= 999.5 else f"{value:#.3g}".rstrip(".")


def _exponent(fit: Fit | None) -> str:
    if fit is None:
        return NOTHING
    sureness = "two points alone" if fit.r_squared is None else f"R² {fit.r_squared:.3f}"
    return f"{fit.exponent:.2f} ({sureness})"


def _names(results: Results) -> list[str]:
    return [entry["contestant"] for entry in results["entries"]]


def _unets(names: Sequence[str]) -> list[str]:
    """nnU-Net's default network, which whole cases are compared with besides the dense twins."""
    return [name for name in names if parse_contestant(name)[0] == "nnunet"]


def _entry(results: Results, contestant: str) -> EntryResult:
    return next(entry for entry in results["entries"] if entry["contestant"] == contestant)


def _about(results: Results) -> str:
    names = dict.fromkeys(parse_contestant(contestant)[0] for contestant in _names(results))
    return "\n".join(f"- `{name}`: {CONTESTANTS[name].about}" for name in names)


def _amount(value: int | None, unit: float) -> str:
    return number(value / unit) if value is not None else NOTHING


def _rate(entry: EntryResult, mode: str, per_step: int) -> Spread | None:
    found = entry["modes"].get(mode)
    return spread([per_step / seconds for seconds in found["seconds"]]) if found else None


def _memory(entry: EntryResult, mode: str) -> str:
    found = entry["modes"].get(mode)
    return number((found["peak_bytes"] - found["before_bytes"]) / GIGABYTE) if found else NOTHING


def _with_extremes(values: Spread | None) -> str:
    return f"{number(values.median)} ({number(values.low)} to {number(values.high)})" if values else NOTHING


def _in_both(reference: EntryResult, entry: EntryResult, mode: str, make: Callable[[Any, Any], str]) -> str:
    theirs, ours = reference["modes"].get(mode), entry["modes"].get(mode)
    return make(theirs, ours) if theirs and ours else NOTHING


def _faster(reference: EntryResult, entry: EntryResult, mode: str) -> str:
    return _in_both(reference, entry, mode, lambda theirs, ours: _ratio(theirs["seconds"], ours["seconds"]))


def _network_ratio(theirs: ModeResult, ours: ModeResult) -> str:
    """Of whole cases: the windows alone."""
    return _ratio(*([turn["network"] for turn in each["stages"]] for each in (theirs, ours)))


def _ratio(theirs: list[float], ours: list[float]) -> str:
    values = paired_ratio(theirs, ours)
    return f"{values.median:.2f} x ({values.low:.2f} to {values.high:.2f})"


def _memory_share(reference: EntryResult, entry: EntryResult, mode: str) -> str:
    def share(theirs: Any, ours: Any) -> str:
        whole = theirs["peak_bytes"] - theirs["before_bytes"]
        return f"{100 * (ours['peak_bytes'] - ours['before_bytes']) / whole:.0f} %" if whole > 0 else NOTHING

    return _in_both(reference, entry, mode, share)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
