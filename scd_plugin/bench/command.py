"""The commands `scd bench` and `scd bench-page`. Thin, and light to import."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scd_plugin.bench.settings import SETTINGS, Settings, named_settings, parse_crop

if TYPE_CHECKING:
    from scd_plugin.bench.results import Results

__all__ = ["bench", "bench_page", "settings_from_options"]

# what grows when contestants are not named
GROWING = ("scd", "dense", "nnunet")
PRUNING = ("scd",)


def bench(
    contestants: Annotated[
        list[str] | None,
        typer.Argument(
            help="Networks, with arguments if need be: scd, dense, scd:keep_ratio=0.5,feature_size=8. Everyone without."
        ),
    ] = None,
    settings: Annotated[
        str | None, typer.Option(help=f"Where options are not given: {', '.join(SETTINGS)}. btcv without it.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="As --settings quick: a smoke test, under a minute.")] = False,
    crop: Annotated[str | None, typer.Option(help="Voxels: 96, or 96x128x128.")] = None,
    batch: Annotated[int | None, typer.Option(help="Windows at a time.")] = None,
    in_channels: Annotated[int | None, typer.Option(help="Image channels.")] = None,
    out_channels: Annotated[int | None, typer.Option(help="Classes.")] = None,
    keep_ratio: Annotated[float | None, typer.Option(help="Share of tokens kept at each stage, where pruned.")] = None,
    dtype: Annotated[
        str | None, typer.Option(help="float32, or bfloat16 or float16 for autocast. float32 without it.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto for cuda where there is one.")] = "auto",
    compiled: Annotated[bool | None, typer.Option("--compile/--eager", help="torch.compile. Eager without it.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads; PyTorch's choice without it.")] = None,
    keep_memory: Annotated[
        bool | None,
        typer.Option(
            "--keep-memory/--return-memory",
            help="On a CPU: freed memory stays in the process, or goes back to the system. Kept without it.",
        ),
    ] = None,
    mode: Annotated[list[str] | None, typer.Option(help="forward or train; both without it.")] = None,
    repeats: Annotated[int | None, typer.Option(help="Turns of each network.")] = None,
    warmup: Annotated[
        int | None, typer.Option(help="Untimed steps of a network that was just built; in training two at least.")
    ] = None,
    turn_seconds: Annotated[float | None, typer.Option(help="A turn is as many whole steps as fill this.")] = None,
    grow: Annotated[
        str | None,
        typer.Option(
            help="crop, keep, batch, or volume for noise of that size segmented in windows: cost as the work grows."
        ),
    ] = None,
    values: Annotated[str | None, typer.Option(help="Of what grows, with commas: 64,96,128 or 96,96x128x192.")] = None,
    image: Annotated[
        str | None, typer.Option(help="Instead of noise: a file to segment whole, in windows of the crop.")
    ] = None,
    spacing: Annotated[float | None, typer.Option(help="With --image: mm per voxel that it is resampled to.")] = None,
    overlap: Annotated[
        float | None, typer.Option(help="With --image or --grow volume: share of a window that the next one covers.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="JSON file to write; a picture goes beside it.")] = None,
) -> None:
    """Networks side by side: speed, memory, operations, and where the time goes. Prints Markdown."""
    options = {
        "contestants": tuple(contestants) if contestants else None,
        "crop": crop,
        "batch": batch,
        "in_channels": in_channels,
        "out_channels": out_channels,
        "keep_ratio": keep_ratio,
        "dtype": dtype,
        "device": device,
        "compiled": compiled,
        "threads": threads,
        "keep_memory": keep_memory,
        "modes": tuple(mode) if mode else None,
        "repeats": repeats,
        "warmup": warmup,
        "turn_seconds": turn_seconds,
        "image": image,
        "spacing": spacing,
        "overlap": overlap,
    }
    try:
        if image and (mode or grow):
            msg = f"image {image} is measured alone; leave out --mode and --grow"
            raise ValueError(msg)
        if quick and settings not in (None, "quick"):
            msg = f"settings {settings} and --quick, which is --settings quick, exclude each other; leave one out"
            raise ValueError(msg)
        name = "quick" if quick else "btcv" if settings is None else settings
        chosen = settings_from_options(name, grow=grow, **options)
        if output is not None:
            _must_be_writable(output)
        results = _run(chosen, grow, tuple(values.split(",")) if values else ())
    except ValueError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    problems = _show(results, output)
    if not any(entry["modes"] for entry in results["entries"]):
        problems.append("no network could be measured; the reasons are listed above")
    for problem in problems:
        typer.echo(f"error: {problem}", err=True)
    if problems:
        raise typer.Exit(1)


def bench_page(
    folder: Annotated[Path, typer.Argument(help="JSON files of scd bench; the page goes beside the folder.")] = Path(
        "docs/benchmarks"
    ),
) -> None:
    """Make a page, with pictures, of all results in a folder: docs/benchmarks.md of docs/benchmarks/*.json."""
    from scd_plugin.bench.page import write_page

    try:
        page = write_page(folder)
    except ValueError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    typer.echo(str(page))


def settings_from_options(name: str, *, grow: str | None = None, **options: Any) -> Settings:
    """Named settings with what was given in their place.

    Args:
        name: of the settings.
        grow: what will grow; it decides who takes part where nobody is named.
        **options: fields of `Settings`, None for what was not given; `crop` as text, `device` may be "auto".

    Raises:
        ValueError: for a value that cannot be.
    """
    import torch

    named = named_settings(name)
    given = {field: value for field, value in options.items() if value is not None}
    if "crop" in given:
        given["crop"] = parse_crop(given["crop"])
    if given.get("device", "auto") == "auto":
        given["device"] = "cuda" if torch.cuda.is_available() else "cpu"
    given.setdefault("threads", torch.get_num_threads())
    if grow and "contestants" not in given:
        given["contestants"] = PRUNING if grow == "keep" else GROWING
    if grow == "volume":
        given.setdefault("modes", ("forward",))
    return replace(named, **given)


def _run(settings: Settings, grow: str | None, values: tuple[str, ...]) -> Results:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from scd_plugin.bench.entries import VARIABLES
    from scd_plugin.bench.run import run_bench, run_length

    if values and not grow:
        msg = f"values {','.join(values)} need --grow, which says what they are of: {', '.join(VARIABLES)}"
        raise ValueError(msg)
    if grow:
        values = values or VARIABLES.get(grow, ())
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        total = run_length(settings, max(1, len(values)))
        task = progress.add_task("", total=total)

        def show(what: str) -> None:
            progress.update(task, advance=1, description=what)

        results = run_bench(settings, grow=grow, values=values, report=show)
        progress.update(task, completed=total, description="done")
    return results


def _show(results: Results, output: Path | None) -> list[str]:
    """Write and print everything; what could not be written."""
    from scd_plugin.bench.results import write_results
    from scd_plugin.bench.tables import markdown

    # first of all, since a run can take hours
    problems = [_kept(write_results, results, output)] if output is not None else []
    typer.echo(markdown(results), nl=False)
    if output is not None:
        from scd_plugin.bench.plots import draw

        problems.append(_kept(draw, results, output.with_suffix(".png")))
    return [problem for problem in problems if problem]


def _must_be_writable(output: Path) -> None:
    """Before hours of measuring; leaves no file that was not there, and those that were as they were."""
    if output.suffix != ".json":
        msg = f"output must end in .json; got {output}"
        raise ValueError(msg)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        for path in (output, output.with_suffix(".png")):
            new = not path.exists()
            path.open("ab").close()
            if new:
                path.unlink()
    except OSError as error:
        msg = f"output must be a file that can be written, with a picture beside it; got {output}: {error.strerror}"
        raise ValueError(msg) from None


def _kept(write: Callable[[Results, Path], object], results: Results, path: Path) -> str | None:
    """Write a file; why it could not be written, or None."""
    try:
        write(results, path)
    except OSError as error:
        return f"{path} could not be written: {error.strerror}"
    typer.echo(str(path), err=True)
    return None
