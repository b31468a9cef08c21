"""What a run was and where its numbers come from, in words: a title, the machine, versions, the command."""

from __future__ import annotations

from pathlib import Path

from scd_plugin.bench.contestants import parse_contestant, prunes
from scd_plugin.bench.growth import WORK
from scd_plugin.bench.results import Results
from scd_plugin.bench.settings import crop_text

__all__ = ["footer", "measured", "picture_text", "some", "title"]

MOST_NAMES = 8
"""that a title has room for"""
VARIED = {"crop": "crop", "keep": "keep_ratio", "batch": "batch"}


def title(results: Results) -> str:
    """One line that tells runs apart: what grows, who takes part, and at what settings."""
    settings = results["settings"]
    grow = results["grow"]
    fixed = {"crop": _windows(results), "batch": f"batch {settings['batch']}"}
    if any(prunes(entry["contestant"]) for entry in results["entries"]):
        fixed["keep_ratio"] = f"keep {settings['keep_ratio']}"
    if grow:
        fixed.pop(VARIED.get(grow["variable"], ""), None)
    channels = f"{settings['in_channels']} to {settings['out_channels']} channels"
    device = results["machine"]["gpu"] or some(settings["threads"], "CPU thread")
    words = [*fixed.values(), channels, settings["dtype"], "compiled" if settings["compiled"] else "eager", device]
    if settings.get("image"):
        image = Path(settings["image"]).name
        words.insert(0, f"{image} at {settings['spacing']} mm, windows overlap by {settings['overlap']}")
    head = f"{settings['name']}, growing {WORK[grow['variable']][0]}" if grow else settings["name"]
    return f"{head}: {_who(results)}; {', '.join(words)}"


def _windows(results: Results) -> str:
    settings, grow = results["settings"], results["grow"]
    overlap = f", windows overlap by {settings['overlap']}" if grow and grow["variable"] == "volume" else ""
    return f"crop {crop_text(settings['crop'])}{overlap}"


def _who(results: Results) -> str:
    """Names without arguments, each once."""
    names = dict.fromkeys(parse_contestant(entry["contestant"])[0] for entry in results["entries"])
    return ", ".join(names) if len(names) <= MOST_NAMES else f"{len(names)} networks"


def measured(results: Results) -> str:
    """When and on what machine, how often, and with what versions."""
    settings = results["settings"]
    with_what = ", ".join(f"{name} {version}" for name, version in results["versions"].items() if version)
    turns = f"{some(settings['repeats'], 'repeat')} in turn, {some(settings['warmup'], 'warm-up step')}"
    return f"Measured {results['created']} on {_machine(results)}. {turns}. {_memory(results)}{with_what}."


def footer(results: Results) -> list[str]:
    """The lines below a picture: the command, then machine, date and the versions that matter most."""
    versions = results["versions"]
    with_what = ", ".join(f"{name} {versions[name]}" for name in ("scd_plugin", "torch") if versions.get(name))
    return [results["command"], f"{_machine(results)}; {results['created']}; {with_what}"]


def picture_text(results: Results) -> dict[str, str]:
    """Keywords of PNG files and their text."""
    return {"Title": title(results), "Description": results["command"], "Source": measured(results)}


def some(number: int, what: str) -> str:
    """A number of something, in its plural unless it is one."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def _machine(results: Results) -> str:
    machine = results["machine"]
    where = (
        f"{machine['processor']} ({_instructions(results)}), {some(machine['cores'], 'core')}, "
        f"{machine['memory_gb']} GiB, {some(results['settings']['threads'], 'CPU thread')}"
    )
    if machine["gpu"]:
        where += f"; {machine['gpu']}, {machine['gpu_memory_gb']} GiB"
    return where


def _memory(results: Results) -> str:
    """What a CPU's process did with freed memory; files from before it was kept say nothing of it."""
    machine = results["machine"]
    if machine["gpu"]:
        return ""
    if settings := machine.get("malloc"):
        return f"Freed memory as {', '.join(f'{name}={value}' for name, value in settings.items())} has it. "
    kept = results["settings"].get("keep_memory") and machine.get("can_keep_memory")
    return "Freed memory stayed in the process. " if kept else "Freed memory went back to the system. "


def _instructions(results: Results) -> str:
    """Of the processor; files from before bfloat16 was looked for say nothing of it."""
    machine = results["machine"]
    if "bfloat16" not in machine:
        return str(machine["instructions"])
    return f"{machine['instructions']}, {machine['bfloat16'] or 'no bfloat16 instructions'}"
