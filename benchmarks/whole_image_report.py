"""Runs with a whole image as Markdown: seconds of every stage, and ratios to the dense twins and nnU-Net's U-Net."""

from __future__ import annotations

from pathlib import Path
from statistics import median

from scd_plugin.bench import tables
from scd_plugin.bench.contestants import twins
from scd_plugin.bench.results import EntryResult, ModeResult, Results
from scd_plugin.bench.tables import (
    NOTHING,
    about_list,
    circumstances,
    in_both,
    number,
    ratio_text,
    section,
    table,
    with_extremes,
)

__all__ = ["STAGES", "markdown", "title"]

STAGES = ("read", "resample", "network", "resample back", "write")


def title(results: Results) -> str:
    """One line that tells runs apart: who takes part, with what image, and what was alike."""
    settings = results.settings
    image = f"{Path(settings['image']).name} at {settings['spacing']} mm, windows overlap by {settings['overlap']}"
    return tables.title(results, settings["name"], [image, *circumstances(results).values()])


def markdown(results: Results) -> str:
    """Everything that a run tells, below a heading of the second level."""
    compared = twins([entry.contestant for entry in results.entries])
    references = [entry for one in compared for entry in results.entries if entry.contestant == one]
    # nnU-Net's default network is what whole images are compared with besides the dense twins
    references += [entry for entry in results.entries if entry.contestant.name == "nnunet"]
    ratios = [_ratio_table(results, reference) for reference in references]
    return section(results, title(results), [_stage_table(results), *ratios])


def _stage_table(results: Results) -> str:
    """Seconds of every contestant for the whole image, with extremes, and for each stage: medians."""
    rows = []
    for entry in results.entries:
        found = entry.modes.get("case")
        stages = [number(median(turn[stage] for turn in found.stages)) if found else NOTHING for stage in STAGES]
        rows.append([f"`{entry.contestant.label}`", with_extremes(found.seconds) if found else NOTHING, *stages])
    head = ["Network", "Whole case, s", *(f"{stage}, s" for stage in STAGES)]
    return f"{table(head, rows)}\n\n{about_list(results)}"


def _ratio_table(results: Results, reference: EntryResult) -> str:
    """How many times faster than a reference every contestant segments a whole image."""
    rows = [
        [f"`{entry.contestant.label}`", *(in_both(reference, entry, "case", make) for make in (_whole, _network))]
        for entry in results.entries
        if entry is not reference
    ]
    return table([f"Against `{reference.contestant.label}`", "Whole case", "Network"], rows) if rows else ""


def _whole(theirs: ModeResult, ours: ModeResult) -> str:
    return ratio_text(theirs.seconds, ours.seconds)


def _network(theirs: ModeResult, ours: ModeResult) -> str:
    """Of the windows alone."""
    return ratio_text(*([turn["network"] for turn in each.stages] for each in (theirs, ours)))
