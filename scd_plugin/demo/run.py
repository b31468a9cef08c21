"""The demo: data set, nnU-Net's commands one after the other, Dice per organ, seconds per stage, a picture."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from rich.console import Console

from scd_plugin.demo.dataset import (
    HELD_OUT_IMAGES,
    HELD_OUT_LABELS,
    check_data,
    configuration_for,
    hold_out,
    images_of,
    prepare_dataset,
    what_is_left_out,
)
from scd_plugin.demo.first_look import check_model_to_try, first_look
from scd_plugin.demo.nnunet_stages import model_folder, plan_and_preprocess, train_fold
from scd_plugin.demo.session import Session, table
from scd_plugin.demo.summary import dice_by_class
from scd_plugin.folders import check_apart, check_output, check_room
from scd_plugin.report.kinds import PAGE
from scd_plugin.whole_files import moved_into_place

__all__ = ["TRAINER", "run_demo"]

TRAINER = "nnUNetTrainerSCD_demo"
# What the synthetic data set must reach on its held-out cases for the demo to count as passed.
MIN_SYNTHETIC_DICE = 0.80
# bytes; the synthetic data set, preprocessed, trained and predicted, takes a third of it
ROOM = 200e6
# File that the demo puts into its folder; no folder without it is ever removed.
MARKER = ".scd_demo"


def run_demo(data: Path | None, output: Path, *, device: str, model_to_try: Path | None = None) -> bool:
    """Run the demo from start to end.

    Args:
        data: folder of the user's, or None for the synthetic data set; see `prepare_dataset`.
        output: folder for all that the demo writes; one of an earlier demo is replaced.
        device: "cpu", "cuda", or "auto" for cuda where there is one.
        model_to_try: bundle with weights and example images, for a first picture before the training.

    Returns:
        Whether the synthetic data set reached its Dice; True for the user's own data.

    Raises:
        ValueError: if `data`, `device` or `model_to_try` can't be used, `output` is no folder of a demo, or one of the
            two folders lies in the other. Nothing has been written or removed then; only that there are too few cases
            shows later.
        subprocess.CalledProcessError: if one of nnU-Net's commands fails.
    """
    from scd_plugin.nnunet.predict.settings import PredictSettings

    output = output.resolve()
    if data is not None:
        check_apart(data.resolve(), output)
        check_data(data)
    if model_to_try is not None:
        check_model_to_try(model_to_try)
        check_apart(model_to_try.resolve(), output, name="model-to-try")
    _check_folder(output)
    check_room(output, ROOM, "the demo")
    device = PredictSettings(device=device).torch_device.type
    again = (output / MARKER).exists()
    _start_folder(output)
    session = Session(output, Console())
    if again:
        session.console.print(f"note: the earlier demo in {output} is replaced: this one starts over", soft_wrap=True)

    for line in what_is_left_out(data) if data is not None else ():
        session.console.print(f"note: {line}", soft_wrap=True)
    if model_to_try is not None:
        with session.stage("first look"):
            first_look(session, model_to_try)
    with session.stage("data set"):
        dataset = prepare_dataset(data, session.folders["nnUNet_raw"], session.command)
        held = hold_out(dataset)
        configuration = configuration_for(dataset)
    number = str(int(dataset.name[7:10]))
    model = model_folder(session, dataset, TRAINER, configuration)
    images, labels = str(dataset / HELD_OUT_IMAGES), str(dataset / HELD_OUT_LABELS)
    predictions = session.output / "predictions"
    what = ("-d", number, "-c", configuration)
    how = ("-tr", TRAINER, "-device", device)

    with session.stage("plan and preprocess"):
        plan_and_preprocess(session, number, configuration)
    with session.stage("train"):
        train_fold(session, number, configuration, trainer=TRAINER, device=device)
    with session.stage("predict"):
        # nnU-Net gives the network no more threads than that
        session.unset("nnUNet_def_n_proc")
        one_process_each = ("-npp", "1", "-nps", "1")
        session.command(
            "nnUNetv2_predict", "-i", images, "-o", str(predictions), *what, "-f", "0", *how, *one_process_each
        )
    with session.stage("evaluate"):
        plans = ("-djfile", str(model / "dataset.json"), "-pfile", str(model / "plans.json"))
        session.command("nnUNetv2_evaluate_folder", labels, str(predictions), *plans)
    with session.stage("audit"):
        tokens = _audit(session, model, Path(images), Path(labels), device=device)
    with session.stage("picture"):
        _picture(session, dataset, model, device=device)
    with session.stage("report"):
        _page(session, predictions, Path(images), Path(labels))
    return _report(session, dataset, predictions, held, tokens, synthetic=data is None)


def _check_folder(output: Path) -> None:
    """Refuse to replace anything but an earlier demo, and what can't be written to."""
    check_output(output)
    if output.exists() and not (output.is_dir() and ((output / MARKER).is_file() or not any(output.iterdir()))):
        msg = (
            f"output must be a new folder, an empty one, or one of an earlier demo, which holds the file {MARKER}; "
            f"{output} is none of these, name another with --output (make demo: OUT=) or remove it yourself"
        )
        raise ValueError(msg)


def _start_folder(output: Path) -> None:
    """Make the demo's folder, in place of an earlier demo's and never of anything else."""
    _check_folder(output)
    output.mkdir(parents=True, exist_ok=True)
    # first and last, so that what is left of a demo that was stopped is known for one
    (output / MARKER).touch()
    for path in output.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != MARKER:
            path.unlink()


def _audit(session: Session, model: Path, images: Path, labels: Path, *, device: str) -> dict[str, float | None]:
    """Print which tokens leave where in the held-out cases, and return it."""
    import torch

    from scd_plugin.measure.audit_table import audit_table
    from scd_plugin.nnunet.predict.audit import audit_model

    audit = audit_model(model, images, labels, device=torch.device(device))
    session.console.print(audit_table(audit))
    # JSON has no NaN, for a share of nothing
    return {name: None if value != value else value for name, value in audit.row().items()}


def _picture(session: Session, dataset: Path, model: Path, *, device: str) -> None:
    """Draw the held-out case in the middle of all by Dice, neither the best nor the worst."""
    os.environ.update(session.environment)
    from scd_plugin.demo.picture import draw, predict_views, typical_label

    ending = json.loads((dataset / "dataset.json").read_text(encoding="utf-8"))["file_ending"]
    labels = typical_label(json.loads((session.output / "predictions" / "summary.json").read_text(encoding="utf-8")))
    case = labels.name.removesuffix(ending)
    images = images_of(case, dataset / HELD_OUT_IMAGES, ending)
    views = predict_views(model, images, labels, device=device)
    draw(views, session.output / "demo.png", title=f"{dataset.name}, {case} (held out, the middle one by Dice)")


def _page(session: Session, predictions: Path, images: Path, labels: Path) -> None:
    """Write the page of the held-out cases."""
    from scd_plugin.report.write import write_report

    write_report(predictions, session.output / PAGE, images=images, truth=labels)


def _report(
    session: Session,
    dataset: Path,
    predictions: Path,
    held: list[str],
    tokens: dict[str, float | None],
    *,
    synthetic: bool,
) -> bool:
    """Print Dice and seconds, and write all that was measured as JSON."""
    summary = json.loads((predictions / "summary.json").read_text(encoding="utf-8"))
    (dice, mean), seconds = dice_by_class(summary, dataset), session.seconds
    rows = [(organ, f"{value:.3f}") for organ, value in (*dice.items(), ("mean", mean))]
    session.console.print(table(f"Dice on {len(held)} held-out cases", "organ", "Dice", rows))
    rows = [(stage, f"{value:.0f}") for stage, value in (*seconds.items(), ("all", sum(seconds.values())))]
    session.console.print(table("Seconds per stage", "stage", "s", rows))
    report = {"dice": dice, "mean_dice": mean, "held_out": held, "tokens": tokens, "seconds": seconds}
    with moved_into_place(session.output / "demo.json") as partial:
        partial.write_text(json.dumps(report, indent=2))
    session.console.print(f"picture: {session.output / 'demo.png'}", soft_wrap=True)
    session.console.print(f"report: {session.output / PAGE}; open it in a browser", soft_wrap=True)
    if synthetic and mean < MIN_SYNTHETIC_DICE:
        session.console.print(
            f"mean Dice {mean:.3f} is below {MIN_SYNTHETIC_DICE:.2f}: the demo failed", style="bold red"
        )
        return False
    return True
