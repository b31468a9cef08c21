from __future__ import annotations

import csv
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from monai.engines import SupervisedEvaluator
from monai.inferers import SlidingWindowInferer
from torch.utils.data import DataLoader

from scd_plugin import SCDUNETR
from scd_plugin.monai import AuditTokens


def evaluator(network: SCDUNETR, folder: Path, *, foreground: int = 1, **options: bool) -> SupervisedEvaluator:
    label = torch.zeros(1, 40, 32, 32)
    label[:, 4:12] = foreground
    cases = [{"image": torch.randn(2, 40, 32, 32), "label": label} for _ in range(2)]
    return SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(cases, batch_size=1),  # type: ignore[arg-type]
        network=network,
        inferer=SlidingWindowInferer(roi_size=(32, 32, 32), overlap=0.5),
        val_handlers=[AuditTokens(network, str(folder), **options)],
    )


def test_a_row_and_a_line_a_validation(
    small: Callable[..., SCDUNETR], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = evaluator(small(), tmp_path / "eval")
    with caplog.at_level(logging.INFO, "scd_plugin"):
        for epoch in (5, 10):
            engine.run(epoch)
    rows = list(csv.DictReader((tmp_path / "eval" / "token_audit.csv").open()))
    assert [row["epoch"] for row in rows] == ["5", "10"]
    # the same network and images: counted anew each time
    assert {**rows[0], "epoch": ""} == {**rows[1], "epoch": ""}
    assert float(rows[0]["components_513+"]) == 2
    assert engine.state.metrics["mixed_left_at_1"] == pytest.approx(float(rows[0]["mixed_left_at_1"]), abs=1e-4)
    assert (tmp_path / "eval" / "token_audit.png").is_file()
    assert len([line for line in caplog.messages if line.startswith("tokens that left at stage 1, 2, 3")]) == 2


def test_a_table_of_another_training(small: Callable[..., SCDUNETR], tmp_path: Path) -> None:
    network = small()
    evaluator(network, tmp_path / "eval").run(2)
    engine = evaluator(network, tmp_path / "eval", anew=True)
    engine.run(5)
    engine.run(10)
    rows = csv.DictReader((tmp_path / "eval" / "token_audit.csv").open())
    assert [row["epoch"] for row in rows] == ["5", "10"]


def test_nothing_to_count_is_no_metric(small: Callable[..., SCDUNETR], tmp_path: Path) -> None:
    engine = evaluator(small(), tmp_path / "eval", foreground=0)
    engine.run(1)
    assert not {"mixed_left_at_1", "foreground_voxels_left_at_1"} & engine.state.metrics.keys()


def test_a_dense_network_is_not_audited(small: Callable[..., SCDUNETR], tmp_path: Path) -> None:
    evaluator(small(keep_ratio=1.0), tmp_path / "eval").run(1)
    assert not (tmp_path / "eval").exists()
