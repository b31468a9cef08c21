from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from scd_plugin.demo import run as demo_run
from scd_plugin.demo.picture import Views, draw


class TestOutputFolder:
    def test_earlier_demo_is_replaced(self, tmp_path: Path) -> None:
        (tmp_path / "out" / "nnUNet_raw").mkdir(parents=True)
        demo_run._clear(tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_other_folders_are_never_touched(self, tmp_path: Path) -> None:
        (tmp_path / "precious.txt").touch()
        with pytest.raises(ValueError, match="output must be a new folder or one of an earlier demo"):
            demo_run._clear(tmp_path)
        assert (tmp_path / "precious.txt").exists()


@pytest.mark.parametrize(("mean", "synthetic", "passed"), [(0.85, True, True), (0.79, True, False), (0.1, False, True)])
def test_report(tmp_path: Path, mean: float, synthetic: bool, passed: bool) -> None:
    dataset, predictions = tmp_path / "Dataset001_A", tmp_path / "predictions"
    dataset.mkdir()
    predictions.mkdir()
    labels = {"background": 0, "whole": [1, 2], "core": 2}
    (dataset / "dataset.json").write_text(json.dumps({"labels": labels}))
    summary = {"mean": {"(1, 2)": {"Dice": 0.9}, "2": {"Dice": 0.7}}, "foreground_mean": {"Dice": mean}}
    (predictions / "summary.json").write_text(json.dumps(summary))
    session = demo_run._Session(tmp_path / "out", Console(record=True, width=100))
    with session.stage("train"):
        pass
    assert demo_run._report(session, dataset, predictions, ["a"], synthetic=synthetic) is passed
    report = json.loads((tmp_path / "out" / "demo.json").read_text())
    assert report["dice"] == {"whole": 0.9, "core": 0.7}
    assert list(report["seconds"]) == ["train"]
    printed = session.console.export_text()
    assert "whole" in printed
    assert "0.900" in printed
    assert ("the demo failed" in printed) is not passed


def test_picture(tmp_path: Path) -> None:
    labels = np.zeros((4, 16, 16), dtype=np.uint8)
    labels[2, 4:9, 4:9] = 1
    views = Views(
        image=np.random.default_rng(0).random((4, 16, 16)),
        truth=labels,
        prediction=labels,
        keep=labels.astype(float),
        num_stages=3,
    )
    draw(views, tmp_path / "demo.png", title="case")
    assert (tmp_path / "demo.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
