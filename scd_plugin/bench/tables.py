"""Results as Markdown, with a title and where the numbers come from. Pure: the same results make the same text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import median

from scd_plugin.bench.bench_settings import crop_text
from scd_plugin.bench.contestants import twins
from scd_plugin.bench.parts import PART_NAMES
from scd_plugin.bench.results import EntryResult, ModeResult, Results

__all__ = ["NOTHING", "about_list", "circumstances", "in_both", "machine_text", "markdown", "measured_text", "number"]
__all__ += ["ratio_text", "section", "table", "title", "with_extremes"]

NOTHING = "-"
"""Where there is no number."""
GIGABYTE = 1e9
COLUMNS = ("forward", "train")
MOST_NAMES = 8
"""that a title has room for"""


def markdown(results: Results) -> str:
    """Everything that a run tells, below a heading of the second level."""
    contestants = [entry.contestant for entry in results.entries]
    ratios = [_ratio_table(results, results.entries[contestants.index(twin)]) for twin in twins(contestants)]
    return section(results, title(results), [_speed_table(results), *ratios, _parts_table(results)])


def section(results: Results, heading: str, blocks: Sequence[str]) -> str:
    """A heading, where it was measured and by what command, tables and text that are not empty, and what failed."""
    first = [f"## {heading}", measured_text(results), f"```bash\n{results.command}\n```"]
    problems = "\n".join(
        f"- `{entry.contestant.label}` at {crop_text(entry.crop)}, batch {entry.batch}, {mode}: {reason}"
        for entry in results.entries
        for mode, reason in entry.problems.items()
    )
    return "\n\n".join(filter(None, [*first, *blocks, problems])) + "\n"


def _speed_table(results: Results) -> str:
    """Sizes, speed and memory of every contestant: medians, with the extremes of the repeats; then what they are."""
    head = ["Network", "Parameters, M", "GMACs a window", "Inference, windows/s", "Training, steps/s"]
    rows = [
        [
            f"`{entry.contestant.label}`",
            NOTHING if entry.parameters is None else number(entry.parameters / 1e6),
            NOTHING if entry.macs is None else number(entry.macs / 1e9 / entry.batch),
            _rate(entry, "forward", entry.batch),
            _rate(entry, "train", 1),
            *(number(entry.modes[mode].memory / GIGABYTE) if mode in entry.modes else NOTHING for mode in COLUMNS),
        ]
        for entry in results.entries
    ]
    return f"{table([*head, 'Inference memory, GB', 'Training memory, GB'], rows)}\n\n{about_list(results)}"


def _ratio_table(results: Results, twin: EntryResult) -> str:
    """Every contestant against a dense twin: how many times as fast, and what share of memory and operations."""
    head = ["Inference speed", "Training speed", "Inference memory", "Training memory", "MACs"]
    rows = [
        [
            f"`{entry.contestant.label}`",
            *(
                in_both(twin, entry, mode, lambda theirs, ours: ratio_text(theirs.seconds, ours.seconds))
                for mode in COLUMNS
            ),
            *(in_both(twin, entry, mode, _memory_share) for mode in COLUMNS),
            _percent(entry.macs / twin.macs) if entry.macs and twin.macs else NOTHING,
        ]
        for entry in results.entries
        if entry is not twin
    ]
    return table([f"Against `{twin.contestant.label}`", *head], rows) if rows else ""


def _parts_table(results: Results) -> str:
    """Share of the time of a forward pass in each part."""
    names = [part for part in PART_NAMES if any(part in entry.parts for entry in results.entries)]
    rows = [
        [f"`{entry.contestant.label}`"]
        + [_percent(entry.parts[part]) if part in entry.parts else NOTHING for part in names]
        for entry in results.entries
        if entry.parts
    ]
    return table(["Share of inference time", *names], rows) if rows else ""


def about_list(results: Results) -> str:
    """What the contestants are, each name once."""
    about = {entry.contestant.name: entry.contestant.about for entry in results.entries}
    return "\n".join(f"- `{name}`: {text}" for name, text in about.items())


def number(value: float) -> str:
    """Three significant digits, or whole numbers from a thousand on."""
    return f"{value:.0f}" if abs(value) >= 999.5 else f"{value:#.3g}".rstrip(".")


def with_extremes(values: Sequence[float]) -> str:
    """The median, and between what it lies."""
    return f"{number(median(values))} ({number(min(values))} to {number(max(values))})"


def ratio_text(theirs: Sequence[float], ours: Sequence[float]) -> str:
    """How many times faster ours is, repeat by repeat: what slows the machine down for a while cancels out."""
    ratios = [reference / own for reference, own in zip(theirs, ours)]
    return f"{median(ratios):.2f} x ({min(ratios):.2f} to {max(ratios):.2f})"


def in_both(
    reference: EntryResult, entry: EntryResult, mode: str, make: Callable[[ModeResult, ModeResult], str]
) -> str:
    """What is made of the reference's result and of another's, where both have one in this mode."""
    theirs, ours = reference.modes.get(mode), entry.modes.get(mode)
    return make(theirs, ours) if theirs and ours else NOTHING


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rows))


def _rate(entry: EntryResult, mode: str, per_step: int) -> str:
    found = entry.modes.get(mode)
    return with_extremes([per_step / seconds for seconds in found.seconds]) if found else NOTHING


def _memory_share(theirs: ModeResult, ours: ModeResult) -> str:
    return _percent(ours.memory / theirs.memory) if theirs.memory > 0 else NOTHING


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def title(results: Results, head: str = "", words: Iterable[str] | None = None) -> str:
    """One line that tells runs apart: a head, who takes part, each name once or their number, and what was alike."""
    names = list(dict.fromkeys(entry.contestant.name for entry in results.entries))
    who = ", ".join(names) if len(names) <= MOST_NAMES else f"{len(names)} networks"
    said = circumstances(results).values() if words is None else words
    return f"{head or results.settings['name']}: {who}; {', '.join(said)}"


def circumstances(results: Results) -> dict[str, str]:
    """What was the same for all, by its name among the settings."""
    settings = results.settings
    keep = any(entry.contestant.takes_keep_ratio for entry in results.entries)
    return {
        "crop": f"crop {crop_text(settings['crop'])}",
        "batch": f"batch {settings['batch']}",
        **({"keep_ratio": f"keep {settings['keep_ratio']}"} if keep else {}),
        "channels": f"{settings['in_channels']} to {settings['out_channels']} channels",
        "dtype": settings["dtype"],
        "compiled": "compiled" if settings["compiled"] else "eager",
        "device": results.machine["gpu"] or _some(settings["threads"], "CPU thread"),
    }


def measured_text(results: Results) -> str:
    """When and on what machine, how often, and with what versions."""
    settings = results.settings
    with_what = ", ".join(f"{name} {version}" for name, version in results.versions.items() if version)
    turns = f"{_some(settings['repeats'], 'repeat')} in turn, {_some(settings['warmup'], 'warm-up step')}"
    return f"Measured {results.created} on {machine_text(results)}. {turns}. {_memory(results)}{with_what}."


def machine_text(results: Results) -> str:
    """Processor, cores, memory and threads, and the GPU where there is one."""
    machine = results.machine
    # files from before bfloat16 was looked for say nothing of it
    bfloat16 = f", {machine['bfloat16'] or 'no bfloat16 instructions'}" if "bfloat16" in machine else ""
    gpu = f"; {machine['gpu']}, {machine['gpu_memory_gb']} GiB" if machine["gpu"] else ""
    return (
        f"{machine['processor']} ({machine['instructions']}{bfloat16}), {_some(machine['cores'], 'core')}, "
        f"{machine['memory_gb']} GiB, {_some(results.settings['threads'], 'CPU thread')}{gpu}"
    )


def _memory(results: Results) -> str:
    """What a CPU's process did with freed memory; files from before it was kept say nothing of it."""
    machine = results.machine
    if machine["gpu"]:
        return ""
    if settings := machine.get("malloc"):
        return f"Freed memory as {', '.join(f'{name}={value}' for name, value in settings.items())} has it. "
    kept = results.settings.get("keep_memory") and machine.get("can_keep_memory")
    return "Freed memory stayed in the process. " if kept else "Freed memory went back to the system. "


def _some(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
