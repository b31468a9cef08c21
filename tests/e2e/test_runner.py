"""MONAI's nnU-Net runner from a data list to label maps, two configurations ensembled, and a training that fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

pytestmark = pytest.mark.slow

TRAINER = "nnUNetTrainerSCD_runner"
FAILING = "nnUNetTrainerSCD_failing"
OWN_TRAINERS = f"""
from scd_plugin.nnunet.trainers import nnUNetTrainerSCD_demo


class {TRAINER}(nnUNetTrainerSCD_demo):
    scd_num_epochs = 2
    scd_keep_ratio = 0.5

    def on_train_start(self):
        super().on_train_start()
        self.num_iterations_per_epoch = 2
        self.num_val_iterations_per_epoch = 1
        # a prediction for each window in place of eight
        self.inference_allowed_mirroring_axes = None


class {FAILING}({TRAINER}):
    def train_step(self, batch):
        raise RuntimeError("out of memory, say")
"""
# as in docs/how-to/monai-nnunet-runner.md; only fold 0, and one process for each step
STEPS = """
import sys

from scd_plugin.monai.runner import SCDRunner

if __name__ == "__main__":
    runner = SCDRunner("input.json", trainer_class_name=sys.argv[1], device="cpu")
    if sys.argv[2:] == ["train"]:
        runner.train_single_model("3d_fullres", 0)
    else:
        runner.convert_dataset()
        runner.plan_and_process(npfp=1, n_proc=(1,), c=("2d", "3d_fullres"))
        runner.num_folds = 1
        runner.train()
        runner.find_best_configuration(folds=(0,), num_processes=1)
        runner.predict_ensemble_postprocessing(
            folds=(0,), num_processes_preprocessing=1, num_processes_segmentation_export=1
        )
"""


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "nnUNet_extTrainer": str(folder / "own_trainers"),
        "nnUNet_n_proc_DA": "1",
        "nnUNet_def_n_proc": "1",
    }
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=1200,
        check=False,
    )


@pytest.fixture(scope="module")
def finished(hippocampus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all steps ran: ten cases, the last two of them to predict."""
    folder = tmp_path_factory.mktemp("runner")
    cases = json.loads((hippocampus / "dataset.json").read_text())["training"]
    (folder / "datalist.json").write_text(json.dumps({"training": cases[:8], "test": cases[8:]}))
    config = {"datalist": "datalist.json", "dataroot": str(hippocampus), "modality": "MR", "dataset_name_or_id": 4}
    (folder / "input.json").write_text(json.dumps(config))
    (folder / "own_trainers").mkdir()
    (folder / "own_trainers" / "mine.py").write_text(OWN_TRAINERS)
    (folder / "steps.py").write_text(STEPS)
    done = run(folder, "steps.py", TRAINER)
    assert done.returncode == 0, done.stdout[-6000:]
    return folder


def test_both_planned_configurations_were_trained_and_compared(finished: Path) -> None:
    results = finished / "work_dir" / "nnUNet_trained_models" / "Dataset004_Task04_Hippocampus"
    trained = {path.parts[-3] for path in results.glob("*/fold_0/checkpoint_final.pth")}
    # nnU-Net plans no 3d_lowres and no cascade for images as small as these
    assert trained == {f"{TRAINER}__nnUNetPlans__{name}" for name in ("2d", "3d_fullres")}
    compared = json.loads((results / "inference_information.json").read_text())
    assert len(compared["all_results"]) == 3
    assert [name for name in compared["all_results"] if name.startswith("ensemble___")]
    chosen = compared["best_model_or_ensemble"]["selected_model_or_models"]
    assert {model["trainer"] for model in chosen} == {TRAINER}


def test_label_maps_lie_on_their_images(finished: Path) -> None:
    root = finished / "work_dir"
    images = sorted(root.glob("nnUNet_raw_data_base/Dataset004_Task04_Hippocampus/imagesTs/*.nii.gz"))
    output = root / "nnUNet_trained_models" / "Dataset004_Task04_Hippocampus" / "ensemble_predictions_postprocessed"
    assert [image.name for image in images] == ["case_8_0000.nii.gz", "case_9_0000.nii.gz"]
    for image in images:
        truth = sitk.ReadImage(str(image))
        prediction = sitk.ReadImage(str(output / image.name.replace("_0000", "")))
        assert prediction.GetSize() == truth.GetSize()
        assert prediction.GetOrigin() == pytest.approx(truth.GetOrigin())
        assert prediction.GetDirection() == pytest.approx(truth.GetDirection())
        assert set(np.unique(sitk.GetArrayFromImage(prediction))) <= {0, 1, 2}


def test_a_failing_training_is_reported(finished: Path) -> None:
    failed = run(finished, "steps.py", FAILING, "train")
    assert failed.returncode == 1
    last = failed.stdout.strip().splitlines()[-1]
    assert last.startswith("RuntimeError: training of configuration 3d_fullres, fold 0, failed: nnUNetv2_train ended")
    log = last.split("Its log file is ")[1].split(";")[0]
    assert Path(finished / log).name.startswith("training_log_")
    assert (finished / log).exists()
    assert "out of memory, say" in failed.stdout


def test_command_line(finished: Path) -> None:
    ours = ("-m", "scd_plugin.monai.runner")
    done = run(finished, *ours, "validate_single_model", "--input_config", "input.json", "--trainer_class_name",
               TRAINER, "--config", "3d_fullres", "--fold", "0", "--device", "cpu")  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    model = f"Dataset004_Task04_Hippocampus/{TRAINER}__nnUNetPlans__3d_fullres"
    summary = finished / "work_dir" / "nnUNet_trained_models" / model / "fold_0" / "validation" / "summary.json"
    assert len(json.loads(summary.read_text())["metric_per_case"]) == 2
