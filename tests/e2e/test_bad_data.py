"""Damaged data sets: what nnU-Net reports before a training, and training and prediction without it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

pytestmark = pytest.mark.slow

# ITK reads NaN and infinite voxels of NIfTI files as 0, those of NRRD files as they are
NUM_CASES = 5
CHECK = ("nnUNetv2_extract_fingerprint", "-d", "7", "-np", "1", "--verify_dataset_integrity")


def write(path: Path, voxels: np.ndarray) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(path))


def edit(path: Path, value: float) -> None:
    voxels = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    voxels[4, 4, 4] = value
    write(path, voxels)


@pytest.fixture
def folder(nnunet: Any, tmp_path: Path) -> Path:
    """A raw data set of two channels and one label, each time anew."""
    nnunet.variables["nnUNet_raw"] = str(tmp_path)
    folder = tmp_path / "Dataset007_Bad"
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for case in range(NUM_CASES):
        label = np.zeros((20, 24, 22), np.uint8)
        label[5:12, 8:15, 6:14] = 1
        write(folder / "labelsTr" / f"case_{case}.nrrd", label)
        for channel in range(2):
            image = rng.normal(size=label.shape).astype(np.float32) + label
            write(folder / "imagesTr" / f"case_{case}_000{channel}.nrrd", image)
    description = {
        "channel_names": {"0": "T1", "1": "T2"},
        "labels": {"background": 0, "organ": 1},
        "numTraining": NUM_CASES,
        "file_ending": ".nrrd",
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: edit(folder / "labelsTr" / "case_3.nrrd", 9), "Unexpected labels found in file"),
        (lambda folder: (folder / "imagesTr" / "case_3_0001.nrrd").unlink(), "Unexpected number of modalities"),
        (lambda folder: edit(folder / "imagesTr" / "case_3_0000.nrrd", np.nan), "Images contain NaN pixel values"),
    ],
    ids=["label not in dataset.json", "missing channel", "NaN voxel"],
)
def test_nnunets_check_names_the_file(nnunet: Any, folder: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(folder)
    command = nnunet.start(*CHECK)
    output, _ = command.communicate(timeout=300)
    assert command.returncode != 0
    assert message in output
    assert "case_3" in output


def test_training_without_that_check(nnunet: Any, folder: Path) -> None:
    """An infinite voxel, which the check lets pass, and a constant image, in a data set smaller than the crop."""
    edit(folder / "imagesTr" / "case_0_0000.nrrd", np.inf)
    write(folder / "imagesTr" / "case_1_0000.nrrd", np.full((20, 24, 22), 3.0, np.float32))
    (nnunet.root / "own").mkdir()
    (nnunet.root / "own" / "short.py").write_text(
        "from scd_plugin.nnunet.trainers import nnUNetTrainerSCD_demo\n\n\n"
        "class nnUNetTrainerSCD_short(nnUNetTrainerSCD_demo):\n"
        "    scd_num_epochs = 2\n\n"
        "    def on_train_start(self):\n"
        "        super().on_train_start()\n"
        "        self.num_iterations_per_epoch = 4\n"
        "        self.inference_allowed_mirroring_axes = None\n"
    )
    nnunet.variables["nnUNet_extTrainer"] = str(nnunet.root / "own")
    nnunet.run(*CHECK)
    nnunet.run("nnUNetv2_plan_experiment", "-d", "7")
    plans_file = nnunet.root / "nnUNet_preprocessed" / "Dataset007_Bad" / "nnUNetPlans.json"
    plans = json.loads(plans_file.read_text())
    plans["configurations"]["3d_fullres"]["patch_size"] = [32, 32, 32]
    plans_file.write_text(json.dumps(plans))
    nnunet.run("nnUNetv2_preprocess", "-d", "7", "-c", "3d_fullres", "-np", "1")
    # every case but one in training
    splits = [{"train": [f"case_{i}" for i in range(NUM_CASES - 1)], "val": [f"case_{NUM_CASES - 1}"]}]
    (plans_file.parent / "splits_final.json").write_text(json.dumps(splits))
    output = nnunet.run("nnUNetv2_train", "7", "3d_fullres", "0", "-tr", "nnUNetTrainerSCD_short", "-device", "cpu")
    skipped = [line for line in output.splitlines() if "step skipped" in line]
    assert skipped
    assert all("case_0" in line for line in skipped)
    assert "Mean Validation Dice" in output

    # the model takes two channels, and of an image there is one
    images = nnunet.root / "images"
    images.mkdir()
    (images / "case_3_0000.nrrd").symlink_to(folder / "imagesTr" / "case_3_0000.nrrd")
    model = nnunet.root / "nnUNet_results" / "Dataset007_Bad" / "nnUNetTrainerSCD_short__nnUNetPlans__3d_fullres"
    predict = nnunet.start(
        "nnUNetv2_predict_from_modelfolder", "-i", str(images), "-o", str(nnunet.root / "out"), "-m", str(model),
        "-f", "0", "-device", "cpu", "-npp", "1", "-nps", "1",
    )  # fmt: skip
    output, _ = predict.communicate(timeout=300)
    assert predict.returncode != 0
    assert "ValueError: image must have shape (B, 2, 32, 32, 32)" in output
