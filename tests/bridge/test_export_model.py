"""`scd export` of an nnU-Net model folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from scd_plugin.bridge.export_model import export_model
from scd_plugin.cli import app
from scd_plugin.nnunet.model.trained_model import ModelFolder
from scd_plugin.nnunet.model.trained_network import build_network

MakeModel = Callable[..., Path]


def test_answers_as_the_model_does(make_model: MakeModel) -> None:
    model = make_model()
    before = sorted(model.rglob("*"))
    done = export_model(model, format="torchscript-trace")
    assert done.path == model / "fold_0" / "model.ts"
    assert sorted(set(model.rglob("*")) - set(before)) == [done.path, done.deployment]
    network = build_network(ModelFolder.read(model, (), "checkpoint_final.pth")).eval()
    image = torch.randn(2, 1, 32, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.load(str(done.path))(image), network(image), rtol=1e-4, atol=1e-4)
    described = json.loads(done.deployment.read_text())
    checkpoint = model / "fold_0" / "checkpoint_final.pth"
    sha256 = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert described["weights"] == {"name": "fold_0/checkpoint_final.pth", "sha256": sha256}
    assert described["spacing"] == [2.4, 1.0, 1.0]
    assert described["nnunet"]["image_reader_writer"] == "SimpleITKIO"


def test_one_of_several_folds(make_model: MakeModel, tmp_path: Path) -> None:
    model, file = make_model(folds=("0", "1")), tmp_path / "second.ts"
    with pytest.raises(ValueError, match="has the folds 0, 1, and an exported file holds one network: take --fold"):
        export_model(model, format="torchscript-trace")
    done = export_model(model, format="torchscript-trace", fold="1", output=file)
    assert (done.path, json.loads(done.deployment.read_text())["weights"]["name"]) == (
        file,
        "fold_1/checkpoint_final.pth",
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--fold", "3"], "fold 3 has no checkpoint"),
        (["--checkpoint", "best.pth"], "no fold has a checkpoint (best.pth)"),
        (["--output", "a.onnx"], "output must be a file name that ends with .ts for this format; got a.onnx"),
        (["--format", "coreml"], "format must be one of"),
    ],
)
def test_refused(make_model: MakeModel, words: list[str], message: str) -> None:
    said: Any = CliRunner().invoke(app, ["export", str(make_model()), *words], env={"COLUMNS": "1000"})
    assert said.exit_code == 2
    assert message in said.output
