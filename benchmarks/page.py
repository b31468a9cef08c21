"""A page of benchmarks with a picture of each, made of the JSON files of a folder.

    python benchmarks/page.py docs/benchmarks

writes docs/benchmarks.md, and the pictures beside the files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from pictures import draw
from reading import read_results
from reports import report_of

from scd_plugin.bench.results import Results

__all__ = ["OLD", "page_text", "read_folder", "write_page"]

OLD = "old-"
"""Begins the name of a file whose numbers the code has left behind; its heading says so."""
HEAD = """# Benchmarks

Made by `benchmarks/page.py` from the JSON files in [{folder}]({folder}); no number is typed by hand. Speeds are
medians with the extremes of the repeats. [How they are measured](how-to/benchmark.md). "Old" are runs that the code has
left behind: [what has changed](results.md#runs).
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
    titles = {name: report_of(results).title(results) for name, results in runs.items()}
    often = Counter(titles.values())
    for name, results in runs.items():
        heading, _, rest = report_of(results).markdown(results).partition("\n\n")
        if often[titles[name]] > 1:
            heading += f" ({name})"
        elif name.startswith(OLD):
            heading += " (old)"
        sections.append("\n\n".join((heading, f"![{titles[name]}]({folder}/{name}.png)", rest)))
    return "\n".join([HEAD.format(folder=folder), *sections])


def write_page(folder: Path) -> Path:
    """Write a page beside a folder, under its name, and a picture beside each of its files.

    Raises:
        ValueError: if the folder has no results, or the page or a picture cannot be written.
    """
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


def main(folder: Annotated[Path, typer.Argument(help="JSON files of benchmarks; the page goes beside it.")]) -> None:
    """Make a page, with pictures, of all results in a folder: docs/benchmarks.md of docs/benchmarks/*.json."""
    try:
        typer.echo(str(write_page(folder)))
    except ValueError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None


if __name__ == "__main__":
    typer.run(main)
