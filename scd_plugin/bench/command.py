"""The command `scd bench`, and what benchmarks of other kinds share with it: options, progress and output."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from scd_plugin.bench.bench_settings import NAMED, BenchSettings, command_line, options_of, parse_crop

if TYPE_CHECKING:
    from scd_plugin.bench.results import Results
    from scd_plugin.bench.timed_steps import Mode
    from scd_plugin.bench.worker import Entry

__all__ = ["Output", "bench", "carry_out", "settings_from_options", "show", "with_settings"]

Output = Annotated[Path | None, typer.Option(help="JSON file to write.")]
NAMES = f"Settings where options are not given: {', '.join(NAMED)} (default: btcv)."
# fields that are typed as something else, and how they are read
READ: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "crop": (str | None, parse_crop),
    "modes": (list[str] | None, tuple),
}
# who takes part in the quick settings where nobody is named
QUICK = ("scd:size=tiny", "dense:size=tiny", "nnunet")


def with_settings(kind: type[BenchSettings]) -> Callable[[Any], Callable[..., None]]:
    """Give a command settings of a kind, whose fields become its options; a `ValueError` ends it with one sentence."""
    options = {"settings": Annotated[str | None, typer.Option(help=NAMES)]}
    options["quick"] = Annotated[bool | None, typer.Option("--quick", help="As --settings quick: under a minute.")]
    for name, (typed, option) in options_of(kind).items():
        options[name] = Annotated[READ[name][0] if name in READ else typed | None, option]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        def with_options(**given: Any) -> None:
            typed = {name: given.pop(name) for name in options}
            try:
                # before PyTorch is imported
                if given.get("output") is not None:
                    _must_be_writable(given["output"])
                command(settings=settings_from_options(kind, **typed), **given)
            except ValueError as error:
                typer.echo(f"error: {error}", err=True)
                raise typer.Exit(2) from None

        own = inspect.signature(command, eval_str=True).parameters.values()
        parameters = [parameter for parameter in own if parameter.name != "settings"]
        keyword = inspect.Parameter.KEYWORD_ONLY
        parameters += [inspect.Parameter(name, keyword, default=None, annotation=how) for name, how in options.items()]
        # what typer reads
        with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        with_options.__doc__ = command.__doc__
        return with_options

    return decorate


def settings_from_options(
    kind: type[BenchSettings], *, settings: str | None = None, quick: bool | None = None, **options: Any
) -> Any:
    """Settings of a name, or the quick ones, with options as typed in their place, None for those not given.

    Raises:
        ValueError: for a value that cannot be.
    """
    import torch

    if quick and settings not in (None, "quick"):
        msg = f"settings {settings} and --quick, which is --settings quick, exclude each other; leave one out"
        raise ValueError(msg)
    name = "quick" if quick else "btcv" if settings is None else settings
    if name not in NAMED:
        msg = f"settings must be one of {', '.join(NAMED)}; got {name!r}"
        raise ValueError(msg)
    given = {field: value for field, value in options.items() if value is not None}
    given |= {field: read(given[field]) for field, (_, read) in READ.items() if field in given}
    if given.get("device", "auto") == "auto":
        given["device"] = "cuda" if torch.cuda.is_available() else "cpu"
    return kind(name=name, **{"threads": torch.get_num_threads(), **NAMED[name], **given})


@with_settings(BenchSettings)
def bench(
    contestants: Annotated[
        list[str] | None,
        typer.Argument(
            help="Networks, with arguments if need be: scd, dense, scd:keep_ratio=0.5,feature_size=8, or "
            "scd:size=small-fast for any preset (default: all networks)."
        ),
    ] = None,
    *,
    settings: BenchSettings,
    output: Output = None,
) -> None:
    """Measure networks side by side, and print tables.

    Speed, memory, operations, and where the time goes; as Markdown where the output is no terminal.
    """
    from scd_plugin.bench.contestants import CONTESTANTS, parse_contestants
    from scd_plugin.bench.tables import markdown
    from scd_plugin.bench.timed_steps import MODES
    from scd_plugin.bench.worker import Entry

    labels = contestants or list(QUICK if settings.name == "quick" else CONTESTANTS)
    entries = [Entry(contestant, settings) for contestant in parse_contestants(labels)]
    pruned = any(entry.contestant.takes_keep_ratio for entry in entries)
    if not pruned and settings.keep_ratio != NAMED[settings.name]["keep_ratio"]:
        taking = "scd, scd-plain and scd-primus-* without size or keep_ratio of their own"
        msg = f"keep-ratio is for {taking}; got {', '.join(labels)}"
        raise ValueError(msg)
    command = command_line(["scd", "bench", *labels], settings)
    carry_out(entries, [MODES[mode] for mode in settings.modes], markdown, output, command=command)


def carry_out(
    entries: Sequence[Entry],
    modes: Sequence[Mode],
    markdown: Callable[[Results], str],
    output: Path | None,
    **origin: Any,
) -> None:
    """Measure as `turns.measure` does, write a file, print what `markdown` makes; end with an error if that is nothing.

    Raises:
        ValueError: if the device is not there, or the file cannot be written; before anything is measured.
    """
    from rich.console import Console

    from scd_plugin.bench.turns import measure

    if output is not None:
        _must_be_writable(output)
    with Console(stderr=True).status("start") as status:
        results = measure(entries, modes, report=status.update, **origin)
    problem = ""
    if output is not None:
        try:
            # first of all, since a run can take hours
            results.write(output)
        except OSError as error:
            problem = f"{output} could not be written: {error.strerror}"
    show(markdown(results))
    if not any(entry.modes for entry in results.entries):
        problem = "no network could be measured; the reasons are listed above"
    if problem:
        typer.echo(f"error: {problem}", err=True)
        raise typer.Exit(1)


def show(text: str, file: TextIO | None = None) -> None:
    """Print Markdown: as it is into a file or another program, with its tables drawn on a terminal."""
    from rich.console import Console

    screen = Console(file=file)
    if not screen.is_terminal:
        screen.file.write(text)
        return
    from rich.markdown import Markdown

    screen.print(Markdown(text))


def _must_be_writable(output: Path) -> None:
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        able = not output.is_dir() and os.access(output if output.exists() else output.parent, os.W_OK)
    except OSError:
        able = False
    if output.suffix != ".json" or not able:
        msg = f"output must be a file that can be written and ends in .json; got {output}"
        raise ValueError(msg)
