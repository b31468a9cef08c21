"""The command `scd`. Thin: every command looks at its paths, then imports and calls one function."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scd_plugin import __version__
from scd_plugin.bench.command import bench
from scd_plugin.command_group import CommandGroup, with_options_of
from scd_plugin.folders import (
    CHECKPOINT,
    EXPORTS,
    bundle_config,
    check_auditable,
    check_exportable,
    check_labelled,
    empty_folder,
    export_path,
    find_folds,
    is_bundle,
    model_export_path,
    read_json,
)
from scd_plugin.nnunet.predict.jobs import check_paths
from scd_plugin.nnunet.predict.settings import PredictSettings
from scd_plugin.quick_imports import quick_imports
from scd_plugin.report.kinds import PICTURES, TOLERANCE, check_predicted
from scd_plugin.report.kinds import check_paths as check_report

if TYPE_CHECKING:
    from scd_plugin.nnunet.predict.clock import CaseTimes

__all__ = ["app"]

COLOURS = {"ok": "green", "note": "yellow", "bad": "red"}
Trust = Annotated[
    bool, typer.Option("--trust", help="Run code of any package that plans.json names, not of nnU-Net's only.")
]

# plain, as our own sentences are
LOOK: dict[str, Any] = {"no_args_is_help": True, "add_completion": False, "rich_markup_mode": None}
app = typer.Typer(cls=CommandGroup, help="Token-pruning segmentation for nnU-Net and MONAI.", **LOOK)
app.command("bench")(bench)


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
        Path | None, typer.Option(help="Decathlon task or nnU-Net raw data set (default: a synthetic one).")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for everything that the demo writes.")] = Path("demo_output"),
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto for cuda where there is one.")] = "auto",
    model_to_try: Annotated[
        Path | None, typer.Option(help="Bundle with weights and a folder example, for pictures before the training.")
    ] = None,
) -> None:
    """Train, predict and evaluate with nnU-Net's commands, in minutes."""
    from scd_plugin.demo.run import run_demo

    if not run_demo(data, output, device=device, model_to_try=model_to_try):
        raise typer.Exit(1)


@app.command()
def train(
    data: Annotated[Path, typer.Argument(help="Decathlon task or nnU-Net raw data set; it is only read.")],
    preset: Annotated[str, typer.Option(help="Network to train, a preset that a trainer has.")] = "small-fast",
    epochs: Annotated[int | None, typer.Option(help="Epochs (default: the trainer's, 1000; tiny: 28).")] = None,
    iterations: Annotated[
        int | None, typer.Option(help="Training steps of an epoch (default: nnU-Net's 250; tiny: 18).")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for everything that is written.")] = Path("scd_training"),
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto for cuda where there is one.")] = "auto",
) -> None:
    """Plan, preprocess, train one fold and report with nnU-Net's commands.

    It prints the commands. The same command again goes on where it stopped.
    """
    from scd_plugin.demo.train import Training
    from scd_plugin.demo.train import train as run_training

    run_training(Training(data, preset, epochs, iterations), output, device=device)


@app.command()
def doctor(
    data: Annotated[
        Path | None,
        typer.Argument(help="A data set or a folder of images: find files that were cut off or hold NaN instead."),
    ] = None,
) -> None:
    """Say what is installed and what to mend, or look at data.

    Whether nnU-Net finds the trainer, and what to type where not; with data, which image files were cut off.
    """
    from rich.console import Console
    from rich.text import Text

    from scd_plugin.nnunet.findings import examine_data, summary

    if data is None:
        from scd_plugin.nnunet.doctor import examine

        findings = examine()
    else:
        findings = {"": examine_data(data)}
    console = Console(soft_wrap=True)
    for use, found in findings.items():
        if use:
            console.print(Text(use, style="bold"))
        indent = "  " if use else ""
        for finding in found:
            mark = (f"{finding.mark:5}", COLOURS[finding.mark])
            console.print(Text.assemble(indent, mark, f"{finding.what}: {finding.detail}"))
            if finding.remedy:
                console.print(Text(f"{indent}     {finding.remedy}", style="bold"))
    if data is None:
        console.print(Text(summary(findings)))
    if not all(finding.ok for found in findings.values() for finding in found):
        raise typer.Exit(1)


_bridge = typer.Typer(help="Move a model between nnU-Net and MONAI.", **LOOK)
app.add_typer(_bridge, name="bridge")


@_bridge.command("to-monai")
def bridge_to_monai(
    model_folder: Annotated[Path, typer.Argument(help="TRAINER__PLANS__CONFIGURATION in nnUNet_results.")],
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle; must not hold anything yet.")],
    fold: Annotated[
        list[str] | None, typer.Option(help="0 to 4 or all; several are averaged (default: all that are trained).")
    ] = None,
    checkpoint: Annotated[str, typer.Option(help="File in each fold.")] = "checkpoint_final.pth",
    trust: Trust = False,
) -> None:
    """Make a MONAI bundle of a trained nnU-Net model; it predicts the same."""
    find_folds(model_folder, fold or (), checkpoint)
    empty_folder(bundle)
    from scd_plugin.bridge.to_monai import to_monai

    root = to_monai(model_folder, bundle, fold or (), checkpoint, trust=trust)
    typer.echo(f"{root}: see docs/README.md there for how to run it")


@_bridge.command("to-nnunet")
def bridge_to_nnunet(
    source: Annotated[Path, typer.Argument(help="MONAI bundle, or a file of weights.")],
    model_folder: Annotated[Path, typer.Argument(help="Folder of the model; must not hold anything yet.")],
    trainer: Annotated[
        str | None,
        typer.Option(help="Trainer named in the model (default: the one that it had, or nnUNetTrainerSCD)."),
    ] = None,
    dataset_json: Annotated[
        Path | None, typer.Option(help="nnU-Net's dataset.json, for a bundle of regions, or for weights.")
    ] = None,
    plans: Annotated[Path | None, typer.Option(help="nnU-Net's plans.json, for weights.")] = None,
    configuration: Annotated[
        str, typer.Option(help="Which configuration of --plans the weights are of.")
    ] = "3d_fullres",
    mirror_axis: Annotated[
        list[int] | None, typer.Option(help="Axis over which nnU-Net mirrors, for weights (default: none).")
    ] = None,
    trust: Trust = False,
) -> None:
    """Make a folder for nnUNetv2_predict_from_modelfolder of a bundle, whose configs are run, or of weights."""
    if not source.exists():
        msg = f"{source} is missing; name a MONAI bundle or a file of weights"
        raise ValueError(msg)
    of_weights = {"plans": plans, "configuration": configuration, "mirror-axis": mirror_axis}
    given = [f"--{name}" for name, value in of_weights.items() if value not in (None, [], "3d_fullres")]
    if source.is_dir() and given:
        msg = f"{', '.join(given)} goes with a file of weights; what a bundle's plans hold follows from its configs"
        raise ValueError(msg)
    if not source.is_dir() and (plans is None or dataset_json is None):
        msg = f"weights alone ({source}) need --plans and --dataset-json of the model that they are for"
        raise ValueError(msg)
    for file in filter(None, (plans, dataset_json)):
        read_json(file)
    empty_folder(model_folder)
    if source.is_dir():
        bundle_config(source)
    from scd_plugin.bridge.from_monai.weights_alone import weights_to_nnunet
    from scd_plugin.bridge.to_nnunet import bundle_to_nnunet

    if plans is None or dataset_json is None:
        moved = bundle_to_nnunet(source, trainer=trainer, dataset_json=dataset_json, trust=trust)
    else:
        moved = weights_to_nnunet(
            source,
            plans=plans,
            dataset_json=dataset_json,
            trainer=trainer,
            configuration=configuration,
            mirror_axes=mirror_axis,
            trust=trust,
        )
    moved.write(model_folder)
    for note in moved.notes:
        typer.echo(f"note: {note}")
    typer.echo(f"{model_folder}: nnUNetv2_predict_from_modelfolder -m {model_folder} -f {' '.join(moved.weights)}")
    typer.echo(f"nnUNetv2_predict -d finds it in nnUNet_results if it is named {moved.name}")


@app.command()
@with_options_of(PredictSettings)
def predict(
    images: Annotated[
        Path, typer.Option("--input", "-i", help="Folder of images named for nnU-Net or of DICOM series, or one image.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for label maps, or a file for one image.")],
    model: Annotated[Path, typer.Option("--model", "-m", help="TRAINER__PLANS__CONFIGURATION in nnUNet_results.")],
    report: Annotated[
        bool, typer.Option("--report", help="Write report.html beside the label maps: see scd report.")
    ] = False,
    **options: Any,
) -> None:
    """Predict as nnUNetv2_predict does, and say where the time goes."""
    check_paths(images, output, model, **options)
    if report:
        check_predicted(output)
    start = perf_counter()
    with quick_imports():
        from scd_plugin.nnunet.predict.run import predict as predict_images

    cases = predict_images(images, output, model, PredictSettings(**options))
    if not cases:
        typer.echo("nothing to do: every label map is there")
    else:
        _say_predicted(cases, output, perf_counter() - start)
    if report:
        from scd_plugin.report.write import write_report

        _say_report(write_report(output))
    if failed := [case.case for case in cases if case.error]:
        typer.echo(f"error: {len(failed)} of {len(cases)} cases failed: {', '.join(failed)}", err=True)
        raise typer.Exit(1)


def _say_predicted(cases: Sequence[CaseTimes], output: Path, seconds: float) -> None:
    from rich.console import Console

    from scd_plugin.nnunet.predict.clock import times_table

    Console(width=None if Console().is_terminal else 160).print(times_table(cases))
    if written := sum(not case.error for case in cases):
        maps = "1 label map" if written == 1 else f"{written} label maps"
        typer.echo(f"done: {maps} in {output}, {seconds:.0f} s in all")


@app.command()
def audit(
    model: Annotated[Path, typer.Argument(help="TRAINER__PLANS__CONFIGURATION in nnUNet_results, or a bundle.")],
    data: Annotated[Path, typer.Argument(help="Labelled cases: a raw data set of nnU-Net, or the bundle's data.")],
    fold: Annotated[str | None, typer.Option(help="Whose validation cases (default: 0, a bundle's own).")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder for token_audit.csv and .png (default: none).")] = None,
    keep: Annotated[
        float | None, typer.Option(help="Share of tokens kept at each stage, in (0, 1] (default: the model's own).")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto for cuda where there is one.")] = "auto",
    trust: Trust = False,
) -> None:
    """Count which tokens leave where in labelled cases.

    And what that does to the segmentation. Of a bundle it runs the configs, which are code.
    """
    if bundle := is_bundle(model):
        check_auditable(model, fold)
        check_labelled(data)
    else:
        find_folds(model, [fold or "0"])
        check_labelled(data, "imagesTr", "labelsTr")
    from rich.console import Console

    from scd_plugin.measure.audit_files import check_free, save_audit
    from scd_plugin.measure.audit_table import audit_table

    free = None if output is None else check_free(output)
    how: dict[str, Any] = {"keep": keep, "device": PredictSettings(device=device, keep=keep).torch_device}
    if bundle:
        from scd_plugin.monai.audit import audit_bundle

        counted = audit_bundle(model, data, fold=fold, **how)
    else:
        from scd_plugin.nnunet.predict.audit import audit_model

        how |= {"fold": fold or "0", "trust": trust, "say": lambda note: typer.echo(note, err=True)}
        counted = audit_model(model, data / "imagesTr", data / "labelsTr", **how)
    Console().print(audit_table(counted))
    if free is not None:
        save_audit(free, counted)


@app.command()
def report(
    folder: Annotated[
        Path, typer.Argument(help="Predictions, a fold of an nnU-Net training (fold_0), or a bundle that has run.")
    ],
    images: Annotated[
        Path | None, typer.Option(help="Folder of the images that were predicted, if they are not found by themselves.")
    ] = None,
    truth: Annotated[
        Path | None, typer.Option(help="Folder of the label maps that should have come out, named as the cases.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="File to write (default: report.html in the folder).")] = None,
    pictures: Annotated[
        int, typer.Option(help="Cases that are shown with pictures, the worst first; the others have a row in a table.")
    ] = PICTURES,
    tolerance: Annotated[
        float, typer.Option(help="Millimetres that surfaces may lie apart, for surface Dice.")
    ] = TOLERANCE,
) -> None:
    """Write one HTML page of predictions or a training: the worst cases first.

    With pictures, Dice, volumes, curves, times and settings; it needs nothing else and is opened from disk.
    """
    check_report(folder, output, images, truth, pictures=pictures, tolerance=tolerance)
    from scd_plugin.report.write import write_report

    _say_report(write_report(folder, output, images=images, truth=truth, pictures=pictures, tolerance=tolerance))


def _say_report(written: Any) -> None:
    size, cases = written.path.stat().st_size / 1e6, "1 case" if written.cases == 1 else f"{written.cases} cases"
    if written.unreadable:
        typer.echo(f"note: label maps that can't be read, see the page: {', '.join(written.unreadable)}", err=True)
    typer.echo(f"done: {written.path}, {cases}, {written.shown} with pictures, {size:.1f} MB; open it in a browser")


@app.command()
def export(
    model: Annotated[
        Path,
        typer.Argument(help="Trained MONAI bundle, or TRAINER__PLANS__CONFIGURATION in nnUNet_results."),
    ],
    model_format: Annotated[
        str,
        typer.Option("--format", help=f"One of {', '.join(EXPORTS)}; the last on a GPU."),
    ] = "torchscript",
    output: Annotated[
        Path | None,
        typer.Option(help="File to write (default: the format's usual name in models/ of the bundle, or in the fold)."),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            help="Largest difference of logits allowed, as a share of the largest (default: 1e-4, for tensorrt 1e-2)."
        ),
    ] = None,
    fold: Annotated[str | None, typer.Option("--fold", "-f", help="Of an nnU-Net model with several.")] = None,
    checkpoint: Annotated[str, typer.Option(help="Of an nnU-Net model: the file in the fold.")] = CHECKPOINT,
    trust: Trust = False,
) -> None:
    """Export the network of a bundle or an nnU-Net model for deployment.

    And check that the written file answers as the network does. It runs a bundle's configs, which are code.
    """
    how: dict[str, Any] = {"format": model_format, "output": output, "tolerance": tolerance}
    of_nnunet = (model / "plans.json").is_file()
    if of_nnunet:
        model_export_path(model, model_format, output, fold=fold, checkpoint=checkpoint)
    else:
        export_path(model, model_format, output)
        check_exportable(model)
        if fold is not None:
            msg = f"fold is for models of nnU-Net, and {model} is a bundle; leave it out"
            raise ValueError(msg)
    from scd_plugin.bridge.export_model import export_model
    from scd_plugin.monai.export.exporter import ParityError, export_bundle

    try:
        if of_nnunet:
            done = export_model(model, fold=fold, checkpoint=checkpoint, trust=trust, **how)
        else:
            done = export_bundle(model, **how)
    except ParityError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    differs = f"its logits differ from the network's by up to {done.difference:.1e}, allowed are {done.allowed:.1e}"
    typer.echo(f"done: {done.path}, {differs}; see {done.deployment}")
