"""A page of benchmarks, made of the JSON files of a folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from scd_plugin.bench.origin import title
from scd_plugin.bench.results import Results, read_results
from scd_plugin.bench.tables import markdown

__all__ = ["page_text", "read_folder", "write_page"]

HEAD = """# Benchmarks

Made by `scd bench-page {folder}` from the JSON files in [{folder}]({folder}); no number is typed by hand. Speeds are
medians with the extremes of the repeats. [How they are measured](how-to/benchmark.md).
"""


def read_folder(folder: Path) -> dict[str, Results]:
    """Name to results, for every JSON file of a folder, in alphabetical order.

    Raises:
        ValueError: if there is none, or one is no result.
    """
    paths = sorted(folder.glob("*.json"), key=lambda path: path.stem)
    if not paths:
        msg = f"{folder} has no JSON files; write one with scd bench --output {folder / 'name.json'}"
        raise ValueError(msg)
    return {path.stem: read_results(path) for path in paths}


def page_text(runs: Mapping[str, Results], folder: str) -> str:
    """The page. Runs of the same title have the names of their files in their headings.

    Args:
        runs: name to results.
        folder: the name of the folder beside the page with their files and pictures.
    """
    sections = []
    titles = Counter(map(title, runs.values()))
    for name, results in runs.items():
        heading, _, rest = markdown(results).partition("\n\n")
        if titles[title(results)] > 1:
            heading += f" ({name})"
        picture = f"![{title(results)}]({folder}/{name}.png)"
        sections.append("\n\n".join((heading, picture, rest)))
    return "\n".join([HEAD.format(folder=folder), *sections])


def write_page(folder: Path) -> Path:
    """Write a page beside a folder, under its name, and a picture beside each of its files.

    Raises:
        ValueError: if the folder has no results, or the page or a picture cannot be written.
    """
    from scd_plugin.bench.plots import draw

    runs = read_folder(folder)
    page = folder.with_suffix(".md")
    try:
        page.write_text(page_text(runs, folder.name), encoding="utf-8")
        for name, results in runs.items():
            draw(results, folder / f"{name}.png")
    except OSError as error:
        msg = f"the page of {folder} and its pictures must be files that can be written; got {error}"
        raise ValueError(msg) from None
    return page
