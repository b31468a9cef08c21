"""What the demo and `scd train` have in common: nnU-Net's planning and training, by its own commands."""

from __future__ import annotations

from pathlib import Path

from scd_plugin.demo.session import Session

__all__ = ["model_folder", "plan_and_preprocess", "train_fold"]

PLANS = "nnUNetPlans"


def model_folder(session: Session, dataset: Path, trainer: str, configuration: str) -> Path:
    """Return the folder in which nnU-Net keeps what a trainer learns of a data set."""
    return session.folders["nnUNet_results"] / dataset.name / f"{trainer}__{PLANS}__{configuration}"


def plan_and_preprocess(session: Session, number: str, configuration: str) -> None:
    """Run nnU-Net's check of the data set, its planning and its preprocessing, on two cores."""
    what = ("-d", number, "-c", configuration)
    session.command("nnUNetv2_plan_and_preprocess", *what, "--verify_dataset_integrity", "-np", "2", "-npfp", "2")


def train_fold(
    session: Session, number: str, configuration: str, *, trainer: str, device: str, go_on: bool = False
) -> None:
    """Train fold 0 and validate it; `go_on` from the checkpoint of a training that was stopped."""
    how = ("-tr", trainer, "-device", device, *(("--c",) if go_on else ()))
    session.command("nnUNetv2_train", number, configuration, "0", *how)
