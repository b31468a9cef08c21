"""nnU-Net's number of threads, and another one in its place."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from nnunetv2.inference import predict_from_raw_data
from torch import Tensor, nn

from scd_plugin.freed_memory import can_keep_freed_memory
from scd_plugin.nnunet.model.recipe import NnunetRecipe
from scd_plugin.nnunet.predict import threads
from scd_plugin.nnunet.predict.run import predict
from scd_plugin.nnunet.predict.settings import PredictSettings
from scd_plugin.nnunet.predict.windows import WindowPredictor

CPU = torch.device("cpu")


@pytest.fixture
def nnunets(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A machine, and nnU-Net's variable as it was when nnU-Net was imported; None where it was not set."""

    def have(*, def_n_proc: int | None, cores: int, logical: int | None = None) -> None:
        if def_n_proc is None:
            monkeypatch.delenv("nnUNet_def_n_proc", raising=False)
        else:
            monkeypatch.setenv("nnUNet_def_n_proc", str(def_n_proc))
        for module in (threads, predict_from_raw_data):
            monkeypatch.setattr(module, "default_num_processes", 8 if def_n_proc is None else def_n_proc)
        monkeypatch.setattr(threads, "usable_cores", lambda: cores)
        monkeypatch.setattr(multiprocessing, "cpu_count", lambda: logical or cores)

    return have


@pytest.mark.parametrize(
    ("def_n_proc", "cores", "logical", "used", "idle"),
    [(1, 2, 2, 1, 1), (None, 2, 2, 2, 0), (None, 32, 64, 8, 24), (None, 6, 12, 8, 0), (16, 6, 12, 12, 0)],
    ids=["variable", "small", "large", "two threads a core", "more than there are"],
)
def test_numbers(
    nnunets: Callable[..., None], def_n_proc: int | None, cores: int, logical: int, used: int, idle: int
) -> None:
    nnunets(def_n_proc=def_n_proc, cores=cores, logical=logical)
    assert threads.nnunets_threads() == used
    assert threads.idle_cores() == idle


def test_note(nnunets: Callable[..., None]) -> None:
    nnunets(def_n_proc=1, cores=2)
    assert threads.idle_cores_note() == (
        "the network computes on 1 of 2 cores, since nnU-Net takes no more threads than nnUNet_def_n_proc (1): "
        "--threads 2 takes all, and its sums may round differently"
    )
    nnunets(def_n_proc=None, cores=32)
    note = threads.idle_cores_note()
    assert note is not None
    assert note.startswith(
        "the network computes on 8 of 32 cores, since nnU-Net takes no more threads than nnUNet_def_n_proc (8, its "
        "default): --threads 32 takes all"
    )
    nnunets(def_n_proc=4, cores=4)
    assert threads.idle_cores_note() is None


@pytest.mark.parametrize(("device", "during"), [("cpu", 7), ("cuda", 1)])
def test_pytorchs_threads(nnunets: Callable[..., None], device: str, during: int) -> None:
    nnunets(def_n_proc=1, cores=7)
    before = torch.get_num_threads()
    with threads.pytorch_threads(torch.device(device)):
        assert torch.get_num_threads() == during
    assert torch.get_num_threads() == before


class CountsThreads(nn.Module):
    """Remembers with how many threads it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv3d(1, 3, 1)
        self.seen: set[int] = set()

    def forward(self, image: Tensor) -> Tensor:
        self.seen.add(torch.get_num_threads())
        logits: Tensor = self.layer(image)
        return logits


@pytest.mark.parametrize(("wanted", "during"), [(None, 2), (3, 3), (1, 1)])
def test_around_the_network(
    nnunets: Callable[..., None], recipe: NnunetRecipe, wanted: int | None, during: int
) -> None:
    nnunets(def_n_proc=2, cores=4)
    network = CountsThreads()
    settings = PredictSettings(device="cpu", threads=wanted)
    predictor = WindowPredictor(network, recipe, [network.state_dict()] * 2, settings)
    with threads.pytorch_threads(CPU):
        predictor.predict_logits_from_preprocessed_data(torch.zeros(1, 20, 20, 20))
        assert torch.get_num_threads() == 4
    assert network.seen == {during}


def test_as_it_is_predicted(
    nnunets: Callable[..., None],
    make_model: Callable[..., Path],
    make_images: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    nnunets(def_n_proc=1, cores=2)
    model, images = make_model(), make_images(["a"])

    def run(name: str, **settings: Any) -> tuple[str, dict[str, Any]]:
        (times,) = predict(images, tmp_path / name, model, PredictSettings(device="cpu", **settings))
        assert times.error is None
        (one,) = json.loads((tmp_path / name / "scd_predict.json").read_text())["runs"]
        return capsys.readouterr().err, one["settings"]

    said, settings = run("one")
    assert said.startswith("note: the network computes on 1 of 2 cores, ")
    assert settings["keeps_freed_memory"] == can_keep_freed_memory()
    assert settings["cuda_graphs_allowed"] is False
    assert settings["threads"] == 1
    said, settings = run("two", threads=2)
    assert said == ""
    assert settings["threads"] == 2
