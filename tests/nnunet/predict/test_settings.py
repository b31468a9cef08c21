from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path

import pytest
import torch
import typer
from typer.core import TyperOption

from scd_plugin.cli import app
from scd_plugin.nnunet.model.recipe import NnunetRecipe
from scd_plugin.nnunet.model.trained_model import CHECKPOINT, ModelFolder
from scd_plugin.nnunet.predict import settings
from scd_plugin.nnunet.predict.run import record
from scd_plugin.nnunet.predict.settings import PredictSettings


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("device", "tpu", "device must be one of auto, cpu, cuda; got tpu"),
        ("dtype", "float16", "dtype must be one of float32, bfloat16, auto; got float16"),
        ("resampling", "linear", "resampling must be one of nnunet, torch; got linear"),
        ("step_size", 0.0, r"step_size must be in \(0, 1\], the step as a share of the window; got 0.0"),
        ("step_size", 1.5, "got 1.5"),
        ("batch", 0, "batch must be at least 1, the windows in a forward pass; got 0"),
        ("threads", 0, "threads must be at least 1, the network's on a CPU; got 0"),
    ],
)
def test_refused(name: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PredictSettings(**{name: value})


def test_engine_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="engine must be one of torch, openvino; got onnx"):
        PredictSettings(engine="onnx")
    monkeypatch.setattr(settings, "find_spec", lambda _: None)
    with pytest.raises(
        ValueError, match=r"engine is openvino, which is not installed; pip install 'scd-plugin\[openvino"
    ):
        PredictSettings(engine="openvino")
    monkeypatch.setattr(settings, "find_spec", lambda _: object())
    with pytest.raises(ValueError, match="keep-map needs to look into the network, which engine openvino does not let"):
        PredictSettings(engine="openvino", keep_map=True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(ValueError, match="engine openvino is for CPUs; take device cpu, or leave the engine out"):
        PredictSettings(engine="openvino")
    assert PredictSettings(engine="openvino", device="cpu").engine == "openvino"


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert PredictSettings(device="auto").torch_device == torch.device("cpu")
    with pytest.raises(ValueError, match="device is cuda, but PyTorch finds no CUDA device here; take auto or cpu"):
        PredictSettings(device="cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert PredictSettings(device="auto").torch_device == torch.device("cuda")
    with pytest.raises(ValueError, match="dtype bfloat16 is for CPUs, on a GPU nnU-Net computes in float16 already"):
        PredictSettings(dtype="bfloat16")
    with pytest.raises(ValueError, match="threads are those of the network on a CPU; leave them out on a GPU or take"):
        PredictSettings(threads=2)
    assert PredictSettings(device="cuda").torch_device == torch.device("cuda")
    assert PredictSettings(device="cpu").torch_device == torch.device("cpu")


@pytest.mark.parametrize(
    ("device", "instructions", "dtype", "expected"),
    [
        ("cpu", "AMX", "auto", "bfloat16"),
        ("cpu", None, "auto", "float32"),
        ("cpu", None, "bfloat16", "bfloat16"),
        ("cpu", "AMX", "float32", "float32"),
        ("cuda", "AMX", "auto", "float16"),
        ("cuda", None, "float32", "float16"),
    ],
)
def test_what_the_network_computes_in(
    monkeypatch: pytest.MonkeyPatch, device: str, instructions: str | None, dtype: str, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("scd_plugin.processor.bfloat16_instructions", lambda: instructions)
    assert PredictSettings(device=device, dtype=dtype).network_dtype == expected


@pytest.fixture
def options() -> dict[str, TyperOption]:
    """Of the command, by the names that they have in Python."""
    command = typer.main.get_command(app).commands["predict"]
    return {parameter.name: parameter for parameter in command.params if parameter.name != "help"}


NAMES = {field.name for field in fields(PredictSettings)}


def test_every_setting_is_an_option(options: dict[str, TyperOption]) -> None:
    assert options.keys() == NAMES | {"images", "output", "model", "report"}
    for name in NAMES:
        assert options[name].default == getattr(PredictSettings(), name)
        assert options[name].help.endswith(".")


def test_every_setting_is_in_the_record(recipe: NnunetRecipe, tmp_path: Path) -> None:
    model = ModelFolder(tmp_path, recipe, "3d_fullres", "nnUNetTrainer", ("0", "2"), CHECKPOINT, (), (0,))
    settings = PredictSettings(device="cpu", step_size=0.75, batch=3, threads=2, mirroring=False)
    written = record(model, settings)
    # what was taken where the settings leave it open
    taken = {"folds": ["0", "2"], "device": written["device"]}
    assert {name: written[name] for name in NAMES} == {**asdict(settings), **taken}
    assert written["device"].startswith("cpu, ")
    assert written["mirror_axes"] == []


def test_every_option_is_in_the_documentation(options: dict[str, TyperOption]) -> None:
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "predict.md").read_text(encoding="utf-8")
    for option in options.values():
        assert [name for name in (*option.opts, *option.secondary_opts) if f" {name} " in page or f"`{name}" in page]


def test_checkpoint_is_that_of_a_model_folder() -> None:
    assert PredictSettings().checkpoint == CHECKPOINT
