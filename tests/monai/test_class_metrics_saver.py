from __future__ import annotations

import csv
from pathlib import Path

import torch
from ignite.engine import Engine

from scd_plugin.monai import ClassMetricsSaver


def test_names_in_both_files(tmp_path: Path) -> None:
    engine = Engine(lambda *_: None)
    saver = ClassMetricsSaver(
        ["liver", "kidney, left"],
        save_dir=str(tmp_path),
        metrics=["val_mean_dice"],
        metric_details=["val_mean_dice"],
        batch_transform=lambda batch: batch,
        summary_ops="*",
    )
    saver.attach(engine)
    engine.state.metrics = {"val_mean_dice": 0.5}
    engine.state.metric_details = {"val_mean_dice": torch.tensor([[0.25, 0.75], [0.5, 0.5]])}
    saver._filenames = ["class0", "b.nii.gz"]
    saver(engine)
    raw, summary = (
        list(csv.reader((tmp_path / f"val_mean_dice_{kind}.csv").read_text().splitlines()))
        for kind in ("raw", "summary")
    )
    assert raw[0] == ["filename", "liver", "kidney, left", "mean"]
    # an image may be called like a class of MONAI's
    assert raw[1][0] == "class0"
    assert [float(value) for value in raw[1][1:]] == [0.25, 0.75, 0.5]
    assert [row[0] for row in summary] == ["class", "liver", "kidney, left", "mean"]
    assert float(summary[1][1]) == 0.375
