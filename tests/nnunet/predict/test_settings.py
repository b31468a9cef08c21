from __future__ import annotations

from pathlib import Path

import pytest
import torch

from scd_plugin.nnunet.model.recipe import NnunetRecipe
from scd_plugin.nnunet.predict import settings as settings_module
from scd_plugin.nnunet.predict.settings import PredictSettings, check_cascade


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("device", "tpu", "device must be one of auto, cpu, cuda; got tpu"),
        ("dtype", "float16", "dtype must be one of float32, bfloat16, auto; got float16"),
        ("resampling", "linear", "resampling must be one of nnunet, torch; got linear"),
    ],
)
def test_refused(name: str, value: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PredictSettings(**{name: value})


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
    monkeypatch.setattr(settings_module, "bfloat16_instructions", lambda: instructions)
    assert PredictSettings(device=device, dtype=dtype).network_dtype == expected


class TestCascade:
    @pytest.fixture
    def second(self, plans: dict, dataset: dict) -> NnunetRecipe:  # type: ignore[type-arg]
        return NnunetRecipe(plans, dataset, "3d_cascade_fullres")

    def test_fits(self, recipe: NnunetRecipe, second: NnunetRecipe, tmp_path: Path) -> None:
        check_cascade(recipe, "3d_fullres", None)
        check_cascade(second, "3d_cascade_fullres", tmp_path)

    def test_not_given(self, second: NnunetRecipe) -> None:
        with pytest.raises(
            ValueError, match=r"3d_cascade_fullres is the second stage of a cascade: predict .* with 3d_lowres first"
        ):
            check_cascade(second, "3d_cascade_fullres", None)

    def test_not_needed(self, recipe: NnunetRecipe, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="3d_fullres is no second stage of a cascade; leave out"):
            check_cascade(recipe, "3d_fullres", tmp_path)

    def test_no_folder(self, second: NnunetRecipe, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"must be a folder of label maps; there is no .*absent"):
            check_cascade(second, "3d_cascade_fullres", tmp_path / "absent")
