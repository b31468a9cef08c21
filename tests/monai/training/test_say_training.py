from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine

from scd_plugin import SCDUNETR, build_network
from scd_plugin.monai import SayTraining, default_size
from scd_plugin.monai.training.say_training import training_in_lines

CASES = {"training": [{}] * 16, "validation": [{}] * 4}


def test_lines() -> None:
    network = build_network("tiny", in_channels=2, out_channels=3, img_size=(32, 32, 16), patch_size=(8, 8, 4))
    number = sum(parameter.numel() for parameter in network.parameters())
    assert training_in_lines(
        network, cases={"training": 16, "validation": 4}, channels=["T1", "T2"], classes=["liver", "tumour"],
        spacing=[1.0, 1.0, 2.5], device="cpu", epochs=30, steps=8,
    ) == [
        "cases:    16 for training, 4 for validation",
        "channels: T1, T2",
        "classes:  liver, tumour",
        "spacing:  1 x 1 x 2.5 mm",
        "crop:     32 x 32 x 16 voxels, tokens of 8 x 8 x 4, kept at each stage: 0.25, 0.25, 0.25",
        f"network:  SCDUNETR, size tiny, {number / 1e6:.1f} million parameters",
        "length:   30 epochs of 8 steps on cpu",
    ]  # fmt: skip


@pytest.mark.parametrize(("steps", "epochs", "told"), [(6, 3, True), (3, 3, False)], ids=["enough", "too few"])
def test_said_once(
    small: Callable[..., SCDUNETR], caplog: pytest.LogCaptureFixture, steps: int, epochs: int, told: bool
) -> None:
    network = small(img_size=16, keep_ratio=1)
    engine = Engine(lambda *_: None)
    SayTraining(network, CASES, channels=["CT"], classes=["liver"], spacing=[1, 1, 1]).attach(engine)
    with caplog.at_level(logging.INFO):
        engine.run([torch.zeros(1)] * steps, max_epochs=epochs)
    said = [record.getMessage() for record in caplog.records]
    assert sum(text.startswith("what is trained\n  cases:    16 for training, 4 for validation") for text in said) == 1
    times = [text for text in said if "s a step" in text]
    assert len(times) == told
    if told:
        # 18 steps, 10 of them are done
        assert times[0].endswith("s a step: 8 more steps take about 0:00:00, without validations")


def test_default_size(tmp_path: Path) -> None:
    assert default_size(str(tmp_path), "cpu") == "small-fast"
    assert default_size(str(tmp_path), torch.device("cuda", 0)) == "base"
    (tmp_path / "models").mkdir()
    for best, expected in (({"preset": "large-early"}, "large-early"), ({"preset": None}, "small-fast")):
        (tmp_path / "models" / "best.json").write_text(json.dumps(best))
        assert default_size(str(tmp_path), "cpu") == expected
