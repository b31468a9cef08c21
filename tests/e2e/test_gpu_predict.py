"""`scd predict` on a CUDA device, against nnU-Net's command there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch

pytestmark = [
    pytest.mark.slow,
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

# Kernels are chosen anew in each process, and float16 rounds a class to another one where two are nearly equal.
SAME_VOXELS = 0.99
PROBABILITIES = 1e-2


@pytest.fixture(scope="module")
def by_nnunet(trained: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model with all classes in its label maps, and nnU-Net's predictions with it."""
    root = tmp_path_factory.mktemp("on_cuda")
    model, output = trained.copy_with_all_classes(root / trained.model.name), root / "by_nnunet"
    trained.nnunet.run(
        "nnUNetv2_predict_from_modelfolder", "-i", str(trained.images), "-o", str(output), "-m", str(model), "-f", "0",
        "-device", "cuda", "-npp", "1", "-nps", "1", "--save_probabilities",
    )  # fmt: skip
    return model, output


@pytest.mark.parametrize("options", [(), ("--dtype", "auto"), ("--batch", "4", "--skip-empty")], ids=" ".join)
def test_label_maps_are_nnunets(
    trained: Any, by_nnunet: tuple[Path, Path], tmp_path: Path, options: tuple[str, ...]
) -> None:
    model, expected = by_nnunet
    output = trained.nnunet.run(
        "scd", "predict", "-i", str(trained.images), "-o", str(tmp_path), "-m", str(model), "--device", "cuda",
        "--save-probabilities", *options,
    )  # fmt: skip
    assert "note:" not in output
    label_maps = sorted(expected.glob("*.nii.gz"))
    assert len(label_maps) == 2
    for label_map in label_maps:
        ours, theirs = (
            sitk.GetArrayFromImage(sitk.ReadImage(str(folder / label_map.name))) for folder in (tmp_path, expected)
        )
        assert len(np.unique(theirs)) > 1
        assert (ours == theirs).mean() >= SAME_VOXELS
        name = label_map.name.replace(".nii.gz", ".npz")
        ours, theirs = (np.load(folder / name)["probabilities"] for folder in (tmp_path, expected))
        assert np.abs(ours - theirs).mean() <= PROBABILITIES
    (run,) = json.loads((tmp_path / "scd_predict.json").read_text())["runs"]
    assert [case["error"] for case in run["cases"]] == [None, None]
    settings = run["settings"]
    assert (settings["dtype"], settings["threads"], settings["cuda_graphs_allowed"]) == ("float16", 1, True)
    assert settings["device"] == torch.cuda.get_device_name()


def test_what_is_for_cpus_is_refused(trained: Any, by_nnunet: tuple[Path, Path], tmp_path: Path) -> None:
    for option, value in (("--dtype", "bfloat16"), ("--threads", "2")):
        process = trained.nnunet.start(
            "scd", "predict", "-i", str(trained.images), "-o", str(tmp_path), "-m", str(by_nnunet[0]), "--device",
            "cuda", option, value,
        )  # fmt: skip
        said, _ = process.communicate(timeout=600)
        assert process.returncode == 2
        assert said.startswith("error: ")
        assert "leave" in said
    assert not list(tmp_path.iterdir())
