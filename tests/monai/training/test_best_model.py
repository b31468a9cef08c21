"""The best model of a training, and weights that must be there."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import BinaryIO

import pytest
import torch
from ignite.engine import Engine, Events

from scd_plugin import SCDNetwork, build_network
from scd_plugin.monai import BestModel, recorded

BUNDLE = Path(__file__).parents[3] / "bundles" / "scd_unetr_segmentation"


@pytest.fixture
def network() -> SCDNetwork:
    return build_network("tiny", 1, 3, 16, 4, hidden_size=48, mlp_dim=48, feature_size=4)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return Path(shutil.copytree(BUNDLE, tmp_path / "bundle"))


def validation(value: float) -> Engine:
    engine = Engine(lambda *_: None)
    engine.state.key_metric_name = "val_mean_dice"

    @engine.on(Events.STARTED)
    def _(engine: Engine) -> None:
        engine.state.metrics["val_mean_dice"] = value

    return engine


def full_disk(_: object, stream: BinaryIO) -> None:
    stream.write(b"half")
    raise OSError(errno.ENOSPC, "No space left on device")


def contents(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def validate(handler: BestModel, value: float) -> None:
    engine = validation(value)
    handler.attach(engine)
    engine.run([0], max_epochs=1)


class TestBestModel:
    def test_only_better_ones_are_kept(self, bundle: Path, network: SCDNetwork) -> None:
        handler = BestModel(network, str(bundle))
        validate(handler, 0.5)
        weight = network.encoder.norm.weight
        before = weight.detach().clone()
        with torch.no_grad():
            weight.add_(1)
        validate(handler, 0.4)
        saved = torch.load(bundle / "models" / "model.pt", weights_only=True)
        assert torch.equal(saved["encoder.norm.weight"], before)
        validate(handler, 0.6)
        saved = torch.load(bundle / "models" / "model.pt", weights_only=True)
        assert torch.equal(saved["encoder.norm.weight"], before + 1)
        assert json.loads((bundle / "models" / "best.json").read_text()) == {
            "metric": "val_mean_dice",
            "value": 0.6,
            "epoch": 1,
            "preset": "tiny",
        }
        assert recorded(str(bundle), "network_def")["hidden_size"] == 48

    def test_not_a_number_is_never_best(self, bundle: Path, network: SCDNetwork) -> None:
        validate(BestModel(network, str(bundle)), float("nan"))
        assert not (bundle / "models" / "model.pt").exists()

    def test_full_disk_leaves_the_best_before(
        self, bundle: Path, network: SCDNetwork, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        handler = BestModel(network, str(bundle))
        validate(handler, 0.5)
        before = contents(bundle)
        assert len(before) > 8
        monkeypatch.setattr(torch, "save", full_disk)
        with pytest.raises(
            OSError, match=r"model\.pt can't be written \(No space left on device\); what was there is kept"
        ):
            validate(handler, 0.6)
        assert contents(bundle) == before

    def test_resumed_training_knows_the_best_so_far(self, bundle: Path, network: SCDNetwork) -> None:
        validate(BestModel(network, str(bundle)), 0.5)
        (bundle / "models" / "model.pt").unlink()
        validate(BestModel(network, str(bundle), resume=True), 0.4)
        assert not (bundle / "models" / "model.pt").exists()
        validate(BestModel(network, str(bundle), resume=False), 0.4)
        assert (bundle / "models" / "model.pt").exists()
