"""The tables of docs/results.md that come from files.

    python benchmarks/results_page.py docs/results.md

fills what stands between `<!-- NAME against NETWORK -->`, `<!-- NAME shares -->`, `<!-- NAME commands -->` or
`<!-- runs -->` and `<!-- end -->`; NAME is a JSON file of the folder `benchmarks` beside the page, for commands of
`benchmarks/commands`. Text around them is written by hand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import Annotated, Any

import typer
from page import OLD, read_folder

from scd_plugin.bench.bench_settings import crop_text
from scd_plugin.bench.parts import PART_NAMES
from scd_plugin.bench.results import EntryResult, Results
from scd_plugin.bench.tables import NOTHING, machine_text, table

__all__ = ["command_table", "filled", "ratio_table", "read_commands", "runs_table", "share_table"]

BLOCK = re.compile(r"(<!-- (?P<what>[^>]+) -->\n).*?(<!-- end -->)", flags=re.DOTALL)
SPEEDS = {"forward": "Inference", "train": "Training", "case": "Whole image"}
MEMORIES = {"forward": "Inference memory", "train": "Training memory"}


def _speed(reference: EntryResult, entry: EntryResult, mode: str) -> str:
    """How many times as fast: the median of the repeats' ratios."""
    if mode not in reference.modes or mode not in entry.modes:
        return NOTHING
    pairs = zip(reference.modes[mode].seconds, entry.modes[mode].seconds)
    return f"{median(theirs / ours for theirs, ours in pairs):.2f}"


def _memory(reference: EntryResult, entry: EntryResult, mode: str) -> str:
    if mode not in reference.modes or mode not in entry.modes:
        return NOTHING
    return f"{100 * entry.modes[mode].memory / reference.modes[mode].memory:.0f} %"


def ratio_table(results: Results, network: str) -> str:
    """Every network against one of them, at the same crop: speed, memory and operations, a number a cell.

    Raises:
        ValueError: if that network is not among the results.
    """
    references = {crop_text(entry.crop): entry for entry in results.entries if entry.contestant.label == network}
    if not references:
        there = ", ".join(dict.fromkeys(entry.contestant.label for entry in results.entries))
        msg = f"a table compares with one of {there}; got {network!r}"
        raise ValueError(msg)
    measured = {mode for entry in results.entries for mode in entry.modes}
    speeds = [mode for mode in SPEEDS if mode in measured]
    memories = [mode for mode in MEMORIES if mode in measured]
    crops = ["Crop"] if len(references) > 1 else []
    rows = [
        [
            f"`{entry.contestant.label}`",
            *([crop] if crops else []),
            *(_speed(references[crop], entry, mode) for mode in speeds),
            *(_memory(references[crop], entry, mode) for mode in memories),
            f"{100 * entry.macs / reference.macs:.0f} %" if entry.macs and reference.macs else NOTHING,
        ]
        for entry in results.entries
        if (crop := crop_text(entry.crop)) in references and (reference := references[crop]) is not entry
    ]
    head = [f"Against `{network}`", *crops, *map(SPEEDS.get, speeds), *map(MEMORIES.get, memories), "Operations"]
    return table([str(cell) for cell in head], rows)


def share_table(results: Results) -> str:
    """Share of a forward pass that each part takes."""
    parts = [part for part in PART_NAMES if part != "other" and any(part in entry.parts for entry in results.entries)]
    rows = [
        [
            f"`{entry.contestant.label}`",
            *(f"{100 * entry.parts[part]:.0f} %" if part in entry.parts else NOTHING for part in parts),
        ]
        for entry in results.entries
        if entry.parts
    ]
    return table(["Network", *parts], rows)


def command_table(measured: Mapping[str, Any]) -> str:
    """Seconds and memory of whole commands, a row each, and below the table when and on what they ran."""
    stages = ("preprocess", "network", "resample")
    rows = [
        [
            f"`{run['command']}`, `{run['trainer']}`",
            f"`{run['options']}`" if run["options"] else "",
            f"{run['seconds']:.0f}",
            *(f"{run['stages'][stage]:.1f}" if "stages" in run else NOTHING for stage in stages),
            f"{run['peak_bytes'] / 1e9:.1f}",
            # the first of a trainer is what the others are compared with
            f"{100 * run['alike']:.2f} %" if run["options"] else NOTHING,
        ]
        for run in measured["runs"]
    ]
    head = ["Command", "Options", "Whole", "Preprocess", "Network", "Resample", "Peak memory", "Voxels alike"]
    used = ", ".join(f"{name} {value}" for name, value in measured["versions"].items() if value)
    on = f"{measured['machine']['processor']}, {measured['machine']['cores']} cores"
    return f"{table(head, rows)}\n\nMeasured {measured['created']} on {on}; {used}."


def runs_table(runs: Mapping[str, Results]) -> str:
    """When, how often, on what, with what and by which command each run was measured."""
    rows = [
        [
            f"`{name}`",
            results.created,
            str(results.settings["repeats"]),
            "old" if name.startswith(OLD) else "",
            f"`{results.command}`",
        ]
        for name, results in runs.items()
    ]
    machines = list(dict.fromkeys(f"- {machine_text(run)}" for run in runs.values()))
    versions = [", ".join(f"{name} {value}" for name, value in run.versions.items() if value) for run in runs.values()]
    used = [f"- {text}" for text in dict.fromkeys(versions)]
    listed = table(["Run", "Measured", "Repeats", "", "Command"], rows)
    return "\n".join(["Machine and versions:", "", *machines, *used, "", listed])


def filled(
    text: str, runs: Mapping[str, Results], commands: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
) -> str:
    """The page with its tables, of networks and of whole commands.

    Raises:
        ValueError: if a table names a run or a network that there is not.
    """
    blocks = [found["what"].split() for found in BLOCK.finditer(text)]
    shown = {name for name, *how in blocks if how != ["commands"]} - {"runs"}
    unknown = sorted(shown - set(runs) | {name for name, *how in blocks if how == ["commands"]} - set(commands))
    if unknown:
        msg = f"the page's tables name runs of the folder ({', '.join((*runs, *commands))}); got {', '.join(unknown)}"
        raise ValueError(msg)

    def block(found: re.Match[str]) -> str:
        name, *how = found["what"].split()
        if name == "runs":
            made = runs_table({name: runs[name] for name in runs if name in shown})
        elif how == ["commands"]:
            made = command_table(commands[name])
        elif how == ["shares"]:
            made = share_table(runs[name])
        else:
            made = ratio_table(runs[name], how[-1])
        return f"{found[1]}\n{made}\n\n{found[3]}"

    return BLOCK.sub(block, text)


def read_commands(folder: Path) -> dict[str, dict[str, Any]]:
    """Name to what was measured of whole commands, for every JSON file of the folder's `commands`."""
    return {path.stem: json.loads(path.read_text()) for path in sorted((folder / "commands").glob("*.json"))}


def main(
    page: Annotated[Path, typer.Argument(help="A page beside the folder benchmarks, such as docs/results.md.")],
) -> None:
    """Fill the tables of a page from the results in the folder `benchmarks` beside it."""
    folder = page.parent / "benchmarks"
    try:
        made = filled(page.read_text(encoding="utf-8"), read_folder(folder), read_commands(folder))
        page.write_text(made, encoding="utf-8")
    except (ValueError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None


if __name__ == "__main__":
    typer.run(main)
