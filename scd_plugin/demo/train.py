"""`scd train`: from a data set to a trained model and a report, by nnU-Net's own commands; goes on where it stopped."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from scd_plugin.demo.dataset import RENAMED, check_data, configuration_for, prepare_dataset, what_is_left_out
from scd_plugin.demo.nnunet_stages import model_folder, plan_and_preprocess, train_fold
from scd_plugin.demo.session import Session, table
from scd_plugin.demo.summary import dice_by_class
from scd_plugin.folders import check_apart, check_output, read_json
from scd_plugin.report.kinds import PAGE
from scd_plugin.whole_files import moved_into_place

__all__ = ["Training", "check_training", "train"]

# what is asked for, and the stages that are done; no folder without it is written to unless it is empty
STATE = "scd_train.json"
TRAINERS_FOLDER = "own_trainers"
# nnU-Net cuts the cases into five parts
FEWEST_CASES = 5

OWN_TRAINER = '''"""Written by `scd train`; nnU-Net finds it by the variable nnUNet_extTrainer."""

from scd_plugin.nnunet.trainers import {base}


class {name}({base}):
{settings}
'''


@dataclass(frozen=True)
class Training:
    """What is to be trained; what is None is as the preset's trainer has it.

    Args:
        data: a Decathlon task or an nnU-Net raw data set; it is only read.
        preset: of `scd_plugin.networks.presets`, one that a trainer has.
        epochs: of the schedule.
        iterations: training steps of an epoch; of validation it takes a fifth as many.
    """

    data: Path
    preset: str
    epochs: int | None = None
    iterations: int | None = None


def check_training(asked: Training, output: Path) -> None:
    """Raise ValueError for what can be seen before anything is imported: folders and numbers."""
    check_apart(asked.data.resolve(), output.resolve())
    for name in ("epochs", "iterations"):
        value = getattr(asked, name)
        if value is not None and value < 1:
            msg = f"{name} must be at least 1; got {value}"
            raise ValueError(msg)
    check_output(output)
    if not (output / STATE).exists() and output.exists() and not (output.is_dir() and not any(output.iterdir())):
        msg = f"output must be a new or empty folder, or one of an earlier scd train; {output} is none of these"
        raise ValueError(msg)


def train(asked: Training, output: Path, *, device: str) -> Path:
    """Convert, plan, preprocess, train fold 0 and report; stages that an earlier call has done are left out.

    Args:
        asked: what is to be trained.
        output: folder for all that is written, with nnU-Net's three folders in it.
        device: "cpu", "cuda", or "auto" for cuda where there is one.

    Returns:
        The folder of the trained fold.

    Raises:
        ValueError: if something can't be used, or `output` was begun with something else.
        subprocess.CalledProcessError: if one of nnU-Net's commands fails.
    """
    check_training(asked, output)
    check_data(asked.data)
    from scd_plugin.nnunet.predict.settings import PredictSettings

    device = PredictSettings(device=device).torch_device.type
    base = _trainer_of(asked.preset)
    output = output.resolve()
    done = _begun(asked, output)
    session = Session(output, Console())
    for line in what_is_left_out(asked.data):
        session.console.print(f"note: {line}", soft_wrap=True)
    trainer = _own_trainer(session, base, asked)

    def once(name: str, stage: Callable[[], None]) -> None:
        if name in done:
            session.console.print(f"done before: {name}")
            return
        with session.stage(name):
            stage()
        done.append(name)
        _write_state(asked, output, done)

    once("data set", lambda: _convert(asked, session))
    dataset = next(path for path in sorted(session.folders["nnUNet_raw"].iterdir()) if path.is_dir())
    number, configuration = str(int(dataset.name[7:10])), configuration_for(dataset)
    fold = model_folder(session, dataset, trainer, configuration) / "fold_0"
    once("plan and preprocess", lambda: plan_and_preprocess(session, number, configuration))

    def run_trainer() -> None:
        # nnU-Net writes the last of these, too, when it has finished
        begun = any((fold / f"checkpoint_{name}.pth").exists() for name in ("latest", "final"))
        train_fold(session, number, configuration, trainer=trainer, device=device, go_on=begun)

    once("train", run_trainer)
    with session.stage("report"):
        _report(session, dataset, fold)
    return fold


def _trainer_of(preset: str) -> str:
    from scd_plugin.nnunet.trainers import TRAINERS

    by_preset: dict[str, str] = {}
    for name, trainer in TRAINERS.items():
        # the plain one of each comes first
        by_preset.setdefault(trainer.scd_preset(), name)
    if preset not in by_preset:
        msg = f"preset must be one that a trainer has: {', '.join(by_preset)}; got {preset}"
        raise ValueError(msg)
    return by_preset[preset]


def _begun(asked: Training, output: Path) -> list[str]:
    """Return the stages that are done; ValueError if they were done for something else."""
    wanted = _as_json(asked)
    if not (output / STATE).exists():
        output.mkdir(parents=True, exist_ok=True)
        _write_state(asked, output, [])
        return []
    state = read_json(output / STATE, dict)
    for name, value in wanted.items():
        if state.get(name) != value:
            was, now = ("the trainer's own" if one is None else one for one in (state.get(name), value))
            msg = f"{output} was begun with {name} {was}, and now it is {now}; take the same, or another output"
            raise ValueError(msg)
    return [str(name) for name in state.get("done", [])]


def _as_json(asked: Training) -> dict[str, Any]:
    return {**asdict(asked), "data": str(asked.data.resolve())}


def _write_state(asked: Training, output: Path, done: list[str]) -> None:
    with moved_into_place(output / STATE) as partial:
        partial.write_text(json.dumps({**_as_json(asked), "done": done}, indent=2) + "\n")


def _own_trainer(session: Session, base: str, asked: Training) -> str:
    """Write a trainer with the epochs and iterations that are asked for; without any, the preset's own will do."""
    settings = {"scd_num_epochs": asked.epochs, "scd_iterations_per_epoch": asked.iterations}
    if asked.iterations is not None:
        settings["scd_val_iterations_per_epoch"] = max(1, asked.iterations // 5)
    given = [f"    {name} = {value}" for name, value in settings.items() if value is not None]
    if not given:
        return base
    folder, name = session.output / TRAINERS_FOLDER, f"{base}_trial"
    folder.mkdir(exist_ok=True)
    (folder / "trial.py").write_text(OWN_TRAINER.format(base=base, name=name, settings="\n".join(given)))
    session.set("nnUNet_extTrainer", str(folder))
    return name


def _convert(asked: Training, session: Session) -> None:
    raw = session.folders["nnUNet_raw"]
    # of a conversion that was stopped; images are links
    for left in (*raw.iterdir(), *raw.parent.glob(RENAMED)):
        _remove(left)
    dataset = prepare_dataset(asked.data, raw, session.command)
    description = read_json(dataset / "dataset.json", dict)
    cases = [path for path in (dataset / "labelsTr").iterdir() if path.name.endswith(description["file_ending"])]
    if len(cases) < FEWEST_CASES:
        msg = f"nnU-Net cuts the labelled cases into five parts, so it needs at least 5; {asked.data} has {len(cases)}"
        raise ValueError(msg)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _report(session: Session, dataset: Path, fold: Path) -> None:
    """Print the Dice of nnU-Net's validation, and write the page."""
    from scd_plugin.report.write import write_report

    summary = read_json(fold / "validation" / "summary.json", dict)
    dice, mean = dice_by_class(summary, dataset)
    rows = [(name, f"{value:.3f}") for name, value in (*dice.items(), ("mean", mean))]
    cases = len(summary["metric_per_case"])
    session.console.print(table(f"Dice on the {cases} cases of fold 0's validation", "class", "Dice", rows))
    images, labels = dataset / "imagesTr", dataset / "labelsTr"
    page = write_report(fold, session.output / PAGE, images=images, truth=labels)
    session.console.print(f"done: {page.path}; open it in a browser", soft_wrap=True)
    name = "nnUNet_extTrainer"
    own = f"{name}={shlex.quote(session.environment[name])} " if name in session.environment else ""
    command = f"scd predict -i IMAGES -o LABEL_MAPS -m {shlex.quote(str(fold.parent))}"
    session.console.print(f"next: {own}{command}", soft_wrap=True, highlight=False)
