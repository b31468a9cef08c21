"""The bar of a bundle's inference: images, or the windows of a single one, and nothing outside of a terminal."""

from __future__ import annotations

import sys

import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from monai.inferers import SlidingWindowInferer

from scd_plugin.monai import InferenceBar


def run(images: int) -> None:
    data = Dataset([{"image": torch.zeros(1, 8, 4, 4)} for _ in range(images)])
    SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(data),
        network=torch.nn.Identity(),
        inferer=SlidingWindowInferer(roi_size=4),
        val_handlers=[InferenceBar()],
    ).run()


@pytest.mark.parametrize(("images", "bar"), [(3, "images: 100%"), (1, "100%")])
def test_on_a_terminal(
    images: int, bar: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    run(images)
    # three windows of one image, or three images
    written = capsys.readouterr().err
    assert bar in written
    assert "3/3" in written


def test_not_in_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    run(3)
    assert "it/s" not in capsys.readouterr().err
