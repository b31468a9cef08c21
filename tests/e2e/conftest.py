"""nnU-Net's commands, run as a user runs them: each in a process of its own, with nothing but variables in common."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from scd_plugin.nnunet.model.checkpoint import read_checkpoint

BIN = Path(sys.executable).parent


@dataclass
class NnunetFolders:
    """The three folders, and commands that use them."""

    root: Path
    variables: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
            self.variables[name] = str(self.root / name)
        # nnU-Net's default of 8 export processes costs half a minute of imports on 2 cores, for two small cases
        self.variables.update(nnUNet_n_proc_DA="1", nnUNet_def_n_proc="1")

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, **self.variables}

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(BIN / words[0]), *words[1:]],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str) -> str:
        """Output of a command that must succeed."""
        process = self.start(*words)
        output, _ = process.communicate(timeout=1200)
        assert process.returncode == 0, f"{' '.join(words)}\n{output[-4000:]}"
        return output

    def run_until(self, text: str, log: Callable[[], str], *words: str) -> None:
        """Kill a command as soon as its log holds a text."""
        process = self.start(*words)
        deadline = time.monotonic() + 600
        while process.poll() is None and time.monotonic() < deadline and text not in log():
            time.sleep(0.2)
        assert process.poll() is None, process.communicate()[0][-4000:]
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert text in log()

    def run_killed(self, epoch: int, *words: str) -> None:
        """A command of `OWN_TRAINER` that is killed at the start of an epoch, whatever the machine's speed."""
        self.variables["KILLED_IN_EPOCH"] = str(epoch)
        process = self.start(*words)
        output, _ = process.communicate(timeout=600)
        del self.variables["KILLED_IN_EPOCH"]
        assert process.returncode == -signal.SIGKILL, output[-4000:]


@pytest.fixture(scope="module")
def nnunet(tmp_path_factory: pytest.TempPathFactory) -> NnunetFolders:
    return NnunetFolders(tmp_path_factory.mktemp("nnunet"))


@pytest.fixture(scope="session")
def hippocampus(shared: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten real cases for training and two to predict, in the layout of the Medical Segmentation Decathlon."""
    source = shared("data/Task04_Hippocampus")
    folder = tmp_path_factory.mktemp("msd") / "Task04_Hippocampus"
    description = json.loads((source / "dataset.json").read_text())
    description["training"] = description["training"][:10]
    description["numTraining"] = 10
    description["test"] = []
    description["numTest"] = 0
    for part in ("imagesTr", "labelsTr", "imagesTs"):
        (folder / part).mkdir(parents=True)
    for case in description["training"]:
        for kind in ("image", "label"):
            (folder / case[kind]).symlink_to((source / case[kind]).resolve())
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


TRAINER = "nnUNetTrainerSCD_of_mine"
# states no keep ratio, so that plans may name any
TRAINER_OF_PLANS = "nnUNetTrainerSCD_of_plans"
# as in docs/how-to/own-settings.md
OWN_TRAINER = f"""
import os
import signal

from scd_plugin.nnunet.trainers import nnUNetTrainerSCD_demo

SHORT = "SHORT" in os.environ


class {TRAINER_OF_PLANS}(nnUNetTrainerSCD_demo):
    scd_num_epochs = 2 if SHORT else 4

    def on_train_start(self):
        super().on_train_start()
        self.save_every = 1
        self.num_iterations_per_epoch = 3
        self.num_val_iterations_per_epoch = 1
        if SHORT:
            # a prediction for each window in place of eight
            self.inference_allowed_mirroring_axes = None

    def on_train_epoch_start(self):
        super().on_train_epoch_start()
        if os.environ.get("KILLED_IN_EPOCH") == str(self.current_epoch):
            os.killpg(0, signal.SIGKILL)


class {TRAINER}({TRAINER_OF_PLANS}):
    scd_keep_ratio = 0.5
"""


@dataclass
class Trained:
    """A model on real cases, and two of them to predict."""

    nnunet: NnunetFolders
    trainer: str = TRAINER
    trainer_of_plans: str = TRAINER_OF_PLANS

    def __post_init__(self) -> None:
        root = self.nnunet.root
        self.raw = root / "nnUNet_raw" / "Dataset004_Hippocampus"
        results = root / "nnUNet_results" / "Dataset004_Hippocampus"
        self.model = results / f"{self.trainer}__nnUNetPlans__3d_fullres"
        self.images, self.labels = root / "images", root / "labels"
        # of the two parts of its training; later commands write logs of their own
        self.training_logs: list[str] = []

    def copy_with_all_classes(self, copy: Path, *, trainer: str | None = None) -> Path:
        """A copy whose output layer is drawn at random: after so short a training it may name one class only.

        Each class's weights add up to nothing, so that none wins wherever features are large.
        """
        shutil.copytree(self.model, copy, ignore=shutil.ignore_patterns("validation"))
        path = copy / "fold_0" / "checkpoint_final.pth"
        checkpoint = read_checkpoint(str(path), needs=["network_weights"])
        generator = torch.Generator().manual_seed(0)
        weights = checkpoint["network_weights"]
        weights["decoder.out.conv.conv.bias"].zero_()
        weight = weights["decoder.out.conv.conv.weight"].normal_(generator=generator)
        weight -= weight.mean(dim=1, keepdim=True)
        checkpoint["trainer_name"] = trainer or self.trainer
        torch.save(checkpoint, path)
        return copy

    def logs(self) -> list[str]:
        return [path.read_text() for path in sorted(self.model.glob("fold_0/training_log_*.txt"))]


@pytest.fixture(scope="session")
def trained(hippocampus: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Trained with nnU-Net's commands; killed in its third epoch, and continued."""
    nnunet = NnunetFolders(tmp_path_factory.mktemp("trained"))
    own = nnunet.root / "own_trainers"
    own.mkdir()
    (own / "mine.py").write_text(OWN_TRAINER)
    nnunet.variables["nnUNet_extTrainer"] = str(own)
    nnunet.run("nnUNetv2_convert_MSD_dataset", "-i", str(hippocampus), "-np", "1")
    nnunet.run(
        "nnUNetv2_plan_and_preprocess", "-d", "4", "-c", "3d_fullres", "-np", "1", "-npfp", "1",
        "--verify_dataset_integrity",
    )  # fmt: skip
    trained = Trained(nnunet)
    what = ("4", "3d_fullres", "0", "-tr", TRAINER, "-device", "cpu")
    # after the warm-up, so that going on has to enter the second stage of the schedule
    nnunet.run_killed(2, "nnUNetv2_train", *what)
    # as a process leaves it that is killed while it writes
    latest = trained.model / "fold_0" / "checkpoint_latest.pth"
    latest.with_name(f"{latest.name}.partial").write_bytes(latest.read_bytes()[:1000])
    nnunet.run("nnUNetv2_train", *what, "--c")
    trained.training_logs = trained.logs()

    trained.images.mkdir()
    trained.labels.mkdir()
    for label in sorted((trained.raw / "labelsTr").iterdir())[:2]:
        case = label.name.removesuffix(".nii.gz")
        (trained.labels / label.name).symlink_to(label)
        image = f"{case}_0000.nii.gz"
        (trained.images / image).symlink_to(trained.raw / "imagesTr" / image)
    return trained
