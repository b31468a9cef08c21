"""`scd predict` and `nnUNetv2_predict` as they are typed, with a trained model on real cases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.slow


def test_label_maps_are_nnunets(trained: Any, tmp_path: Path) -> None:
    by_nnunet, ours = tmp_path / "by_nnunet", tmp_path / "ours"
    trained.nnunet.run(
        "nnUNetv2_predict", "-i", str(trained.images), "-o", str(by_nnunet), "-d", "4", "-c", "3d_fullres", "-f", "0",
        "-tr", trained.trainer, "-device", "cpu", "-npp", "1", "-nps", "1", "--save_probabilities",
    )  # fmt: skip
    output = trained.nnunet.run(
        "scd", "predict", "-i", str(trained.images), "-o", str(ours), "-m", str(trained.model), "--device", "cpu",
        "--save-probabilities",
    )  # fmt: skip
    label_maps = sorted(by_nnunet.glob("*.nii.gz"))
    assert len(label_maps) == 2
    for label_map in label_maps:
        assert (ours / label_map.name).read_bytes() == label_map.read_bytes()
        assert f"{label_map.name.removesuffix('.nii.gz')}  " in output
        name = label_map.name.replace(".nii.gz", ".npz")
        first, second = (np.load(folder / name)["probabilities"] for folder in (ours, by_nnunet))
        np.testing.assert_array_equal(first, second)
    (run,) = json.loads((ours / "scd_predict.json").read_text())["runs"]
    assert [case["error"] for case in run["cases"]] == [None, None]
    assert run["settings"]["trainer"] == trained.trainer
