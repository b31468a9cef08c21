"""Results as Markdown. Pure: the same results make the same text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from scd_plugin.bench.contestants import CONTESTANTS, parse_contestant, twins
from scd_plugin.bench.growth import COSTS, WORK, growth_series
from scd_plugin.bench.parts import PART_NAMES
from scd_plugin.bench.results import EntryResult, Results, Spread, paired_ratio, spread
from scd_plugin.bench.settings import crop_text

__all__ = ["growth_tables", "markdown", "number", "parts_table", "problem_list", "ratio_table", "speed_table", "title"]

NOTHING = "-"
GIGABYTE = 1e9


def markdown(results: Results, *, level: int = 2) -> str:
    """Everything that a run tells: a heading, where it was measured and by what command, tables, and what failed.

    Args:
        results: of a run.
        level: of the heading.
    """
    blocks = [f"{'#' * level} {title(results)}", _origin(results), f"```bash\n{results['command']}\n```"]
    if results["grow"]:
        blocks += growth_tables(results)
    else:
        blocks.append(speed_table(results))
        blocks += [ratio_table(results, twin) for twin in twins(tuple(_names(results)))]
        blocks.append(parts_table(results))
    return "\n\n".join([*filter(None, blocks), *filter(None, [problem_list(results)])]) + "\n"


def title(results: Results) -> str:
    """One line that tells runs apart."""
    settings = results["settings"]
    grow = results["grow"]
    varied = {"crop": "crop", "keep": "keep_ratio", "batch": "batch"}[grow["variable"]] if grow else None
    channels = f"{settings['in_channels']} to {settings['out_channels']} channels"
    fixed = {
        "crop": f"crop {crop_text(settings['crop'])}",
        "batch": f"batch {settings['batch']}",
        "keep_ratio": f"keep {settings['keep_ratio']}",
    }
    device = results["machine"]["gpu"] or _some(settings["threads"], "CPU thread")
    words = [text for name, text in fixed.items() if name != varied]
    words += [channels, settings["dtype"], "compiled" if settings["compiled"] else "eager", device]
    head = f"{settings['name']}, growing {WORK[grow['variable']][0]}" if grow else settings["name"]
    return f"{head}: {', '.join(words)}"


def _origin(results: Results) -> str:
    machine, settings = results["machine"], results["settings"]
    where = (
        f"{machine['processor']} ({machine['instructions']}), {_some(machine['cores'], 'core')}, "
        f"{machine['memory_gb']} GiB, {_some(settings['threads'], 'CPU thread')}"
    )
    if machine["gpu"]:
        where += f"; {machine['gpu']}, {machine['gpu_memory_gb']} GiB"
    with_what = ", ".join(f"{name} {version}" for name, version in results["versions"].items() if version)
    turns = f"{_some(settings['repeats'], 'repeat')} in turn, {_some(settings['warmup'], 'warm-up step')}"
    return f"Measured {results['created']} on {where}. {turns}. {with_what}."


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
    about = [
        f"- `{name}`: {CONTESTANTS[name].about}"
        for name in dict.fromkeys(parse_contestant(contestant)[0] for contestant in _names(results))
    ]
    return _table(head, rows) + "\n\n" + "\n".join(about)


def ratio_table(results: Results, twin: str) -> str:
    """Every contestant against a dense twin: how many times as fast, and what share of memory and operations."""
    reference = next(entry for entry in results["entries"] if entry["contestant"] == twin)
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
    costs = [cost for cost in COSTS if any(each.cost == cost and each.amounts for each in series)]
    exponents = [
        [f"`{contestant}`"]
        + [
            next(
                (
                    f"{each.fit.exponent:.2f} (R² {each.fit.r_squared:.3f})"
                    for each in series
                    if each.contestant == contestant and each.cost == cost and each.fit
                ),
                NOTHING,
            )
            for cost in costs
        ]
        for contestant in dict.fromkeys(_names(results))
    ]
    points = [
        [
            f"`{entry['contestant']}`",
            number(amount(entry)),
            *(number(value) if (value := COSTS[cost](entry)) is not None else NOTHING for cost in costs),
        ]
        for entry in results["entries"]
    ]
    return [
        f"Exponents: cost grows like ({work}) to the power of",
        _table(["Network", *costs], exponents),
        "Medians that they were fitted to:",
        _table(["Network", work, *costs], points),
    ]


def problem_list(results: Results) -> str:
    """Who has no result, and why."""
    return "\n".join(
        f"- `{entry['contestant']}` at {crop_text(entry['crop'])}, batch {entry['batch']}, {mode}: {reason}"
        for entry in results["entries"]
        for mode, reason in entry["problems"].items()
    )


def number(value: float) -> str:
    """Three significant digits, or whole numbers from a thousand on."""
    return f"{value:.0f}" if abs(value) >= 999.5 else f"{value:#.3g}".rstrip(".")


def _some(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _names(results: Results) -> list[str]:
    return [entry["contestant"] for entry in results["entries"]]


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
    def ratio(theirs: Any, ours: Any) -> str:
        values = paired_ratio(theirs["seconds"], ours["seconds"])
        return f"{values.median:.2f} x ({values.low:.2f} to {values.high:.2f})"

    return _in_both(reference, entry, mode, ratio)


def _memory_share(reference: EntryResult, entry: EntryResult, mode: str) -> str:
    def share(theirs: Any, ours: Any) -> str:
        whole = theirs["peak_bytes"] - theirs["before_bytes"]
        return f"{100 * (ours['peak_bytes'] - ours['before_bytes']) / whole:.0f} %" if whole > 0 else NOTHING

    return _in_both(reference, entry, mode, share)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
