"""A trained model through both hosts' commands: label maps agree on real cases."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent
DICE = 0.999


def dice(one: np.ndarray, other: np.ndarray) -> list[float]:
    """For each class in either."""
    classes = np.union1d(one, other)
    return [2 * ((one == k) & (other == k)).sum() / ((one == k).sum() + (other == k).sum()) for k in classes]


def run(*words: str, cwd: Path) -> str:
    """Without any of nnU-Net's variables."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("nnUNet")}
    result = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=1200)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


def test_label_maps_agree(trained: Any, tmp_path: Path) -> None:
    scd = str(BIN / "scd")
    model = trained.copy_with_all_classes(tmp_path / trained.model.name)
    trained.nnunet.run(scd, "bridge", "to-monai", str(model), str(tmp_path / "bundle"))
    run(
        sys.executable, "-m", "monai.bundle", "run", "--config_file", "configs/inference.json", "--bundle_root", ".",
        "--dataset_dir", str(trained.images), cwd=tmp_path / "bundle",
    )  # fmt: skip
    # back as a model of nnU-Net's own trainer, which knows no network but that of the plans
    back = ("to-nnunet", str(tmp_path / "bundle"), str(tmp_path / "back"), "--trainer", "nnUNetTrainer")
    output = trained.nnunet.run(scd, "bridge", *back)
    assert "nnUNetv2_predict_from_modelfolder" in output
    assert "named nnUNetTrainer__" in output
    for folder in (model, tmp_path / "back"):
        trained.nnunet.run(
            "nnUNetv2_predict_from_modelfolder", "-i", str(trained.images), "-o", str(tmp_path / f"of_{folder.name}"),
            "-m", str(folder), "-f", "0", "-device", "cpu", "-npp", "1", "-nps", "1",
        )  # fmt: skip
    for label in sorted(trained.labels.iterdir()):
        folders = (tmp_path / "bundle" / "eval", tmp_path / "of_back", tmp_path / f"of_{model.name}")
        by_monai, back, by_nnunet = (sitk.ReadImage(str(folder / label.name)) for folder in folders)
        voxels = sitk.GetArrayFromImage(by_nnunet)
        assert np.unique(voxels).size > 1
        for other in (by_monai, back):
            assert min(dice(voxels, sitk.GetArrayFromImage(other))) >= DICE
            assert other.GetOrigin() == by_nnunet.GetOrigin()
            assert other.GetSpacing() == by_nnunet.GetSpacing()
            assert other.GetDirection() == by_nnunet.GetDirection()
