"""The command `scd`. Thin: every command calls one function."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Annotated

import typer

from scd_plugin import __version__

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Token-pruning segmentation for nnU-Net and MONAI.")


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"scd-plugin {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Token-pruning segmentation for nnU-Net and MONAI."""


@app.command()
def demo(
    data: Annotated[
        Path | None, typer.Option(help="Decathlon task or nnU-Net raw data set; a synthetic one is made without it.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for everything that the demo writes.")] = Path("demo_output"),
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto for cuda where there is one.")] = "auto",
) -> None:
    """Train, predict and evaluate through nnU-Net's own commands, in minutes."""
    import torch

    from scd_plugin.demo.run import run_demo

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        passed = run_demo(data, output, device=device)
    except ValueError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    except subprocess.CalledProcessError as error:
        typer.echo(f"error: {Path(error.cmd[0]).name} ended with exit code {error.returncode}, see above", err=True)
        raise typer.Exit(1) from None
    if not passed:
        raise typer.Exit(1)


@app.command()
def doctor() -> None:
    """Say what is installed, whether nnU-Net finds the trainer, and what to type where not."""
    from rich.console import Console
    from rich.markup import escape

    from scd_plugin.nnunet.doctor import examine

    findings = examine()
    console = Console(soft_wrap=True)
    for finding in findings:
        mark = (
            "[green]ok[/]  "
            if finding.ok and not finding.remedy
            else "[yellow]note[/]"
            if finding.ok
            else "[red]bad[/] "
        )
        console.print(f"{mark} {escape(finding.what)}: {escape(finding.detail)}", highlight=False)
        if finding.remedy:
            console.print(f"     {escape(finding.remedy)}", style="bold", highlight=False)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)
