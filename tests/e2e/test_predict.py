"""`scd predict` and `nnUNetv2_predict` as they are typed, with a trained model on real cases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scd_plugin.demo.picture import predict_views

pytestmark = pytest.mark.slow


def test_views_of_the_demos_picture(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in trained.nnunet.variables.items():
        monkeypatch.setenv(name, value)
    label = sorted(trained.labels.iterdir())[0]
    image = trained.images / label.name.replace(".nii.gz", "_0000.nii.gz")
    views = predict_views(trained.model, [image], label, device="cpu")
    assert views.image.shape == views.truth.shape == views.prediction.shape == views.keep.shape
    assert views.image.ndim == 3
    assert views.num_stages == 3
    assert set(np.unique(views.truth)) == {0, 1, 2}
    assert set(np.unique(views.prediction)) <= {0, 1, 2}
    assert views.keep.min() >= 0
    assert 0 < views.keep.max() <= 3


def test_label_maps_are_nnunets(trained: Any, tmp_path: Path) -> None:
    by_nnunet, ours = tmp_path / "by_nnunet", tmp_path / "ours"
    trained.nnunet.run(
        "nnUNetv2_predict", "-i", str(trained.images), "-o", str(by_nnunet), "-d", "4", "-c", "3d_fullres", "-f", "0",
        "-tr", trained.trainer, "-device", "cpu", "-npp", "0", "-nps", "0", "--save_probabilities",
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
