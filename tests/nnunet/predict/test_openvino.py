"""`scd predict --engine openvino` against `--engine torch`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from scd_plugin.nnunet.predict.run import predict
from scd_plugin.nnunet.predict.settings import PredictSettings

pytest.importorskip("openvino", reason="openvino is not installed; pip install 'scd-plugin[openvino]'")


def label_map(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def test_two_folds(make_model: Callable[..., Path], make_images: Callable[..., Path], tmp_path: Path) -> None:
    """Two folds, one of which is not loaded yet when the first case begins."""
    model, images = make_model(trainer="nnUNetTrainerSCD_demo", folds=("0", "1")), make_images(["a"])
    predict(images, tmp_path / "torch", model, PredictSettings(device="cpu"))
    predict(images, tmp_path / "openvino", model, PredictSettings(device="cpu", engine="openvino", batch=2))
    one, other = (label_map(tmp_path / engine / "a.nii.gz") for engine in ("torch", "openvino"))
    assert len(np.unique(one)) > 1
    assert (one != other).mean() < 1e-3
    recorded = json.loads((tmp_path / "openvino" / "scd_predict.json").read_text())
    assert recorded["runs"][0]["settings"]["engine"] == "openvino"


def test_a_network_that_can_not_be_compiled_loses_nothing(
    make_model: Callable[..., Path], make_images: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, images, output = make_model(trainer="nnUNetTrainerSCD_demo"), make_images(["a"]), tmp_path / "out"
    predict(images, output, model, PredictSettings(device="cpu"))
    before = {path.name: path.read_bytes() for path in output.iterdir()}

    def fails(*_: object) -> None:
        raise RuntimeError("no such operator")

    monkeypatch.setattr("scd_plugin.networks.openvino_network._compiled", fails)
    with pytest.raises(ValueError, match=r"OpenVINO can't run the network \w+ \(no such operator\); take the engine"):
        predict(images, output, model, PredictSettings(device="cpu", engine="openvino"))
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before
