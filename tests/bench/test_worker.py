from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch

from scd_plugin.bench.entries import Entry
from scd_plugin.bench.memory import peak_bytes
from scd_plugin.bench.settings import SETTINGS
from scd_plugin.bench.steps import Step, seconds_per_step
from scd_plugin.bench.worker import Subject, _sentence

TINY = replace(SETTINGS["quick"], warmup=1)


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before, benchmark = torch.get_num_threads(), torch.backends.cudnn.benchmark
    yield
    torch.set_num_threads(before)
    torch.backends.cudnn.benchmark = benchmark


@pytest.mark.parametrize("mode", ["forward", "train"])
def test_prepare_turn_describe(mode: str) -> None:
    subject = Subject(Entry("scd:size=tiny", TINY), mode)
    ready = subject.prepare()
    assert ready.step_seconds > 0
    assert ready.peak_bytes >= ready.before_bytes
    assert subject.network.training == (mode == "train")
    assert subject.turn(2) > 0
    described = subject.describe()
    assert described.parameters == sum(parameter.numel() for parameter in subject.network.parameters())
    assert list(described.parts) == [
        "tokenizer",
        "before pruning",
        "after pruning",
        "completion",
        "decoder",
        "other",
    ]


@pytest.mark.parametrize(("mode", "warmup", "steps"), [("forward", 1, 1), ("train", 1, 2), ("train", 3, 3)])
def test_memory_of_training_is_read_after_the_optimizer_has_its_state(
    mode: str, warmup: int, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # AdamW makes its state in the first step, when the activations are gone
    taken: list[int] = []
    held: list[int] = []

    def count(step: Step, number: int, *, cuda: bool) -> float:
        taken.append(number)
        return seconds_per_step(step, number, cuda=cuda)

    def peak(*, cuda: bool) -> int:
        held.append(sum(taken))
        return peak_bytes(cuda=cuda)

    monkeypatch.setattr("scd_plugin.bench.worker.seconds_per_step", count)
    monkeypatch.setattr("scd_plugin.bench.worker.peak_bytes", peak)
    Subject(Entry("scd:size=tiny", replace(TINY, warmup=warmup)), mode).prepare()
    assert held == [steps]


def test_turns_on_a_gpu_get_their_memory_back_first(
    fake_events: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Networks share the memory of a GPU, and what a step takes from the driver is not to be in its time."""
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: done.append("emptied"))
    done: list[str] = []

    def step() -> None:
        fake_events(0.5 if "step" in done else 100.0)
        done.append("step")

    subject = Subject(Entry("scd:size=tiny", replace(TINY, device="cuda")), "forward")
    subject._step = step
    assert subject.turn(2) == pytest.approx(0.5)
    assert done == ["step", "step", "step", "emptied"]


def test_turns_with_kept_memory_get_it_back_first(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr("scd_plugin.bench.worker.keep_freed_memory", lambda device: done.append(device) or True)
    monkeypatch.setattr("scd_plugin.bench.worker.give_freed_memory_back", lambda: done.append("given back"))
    subject = Subject(Entry("scd:size=tiny", TINY), "forward")
    subject.prepare()
    subject._step = lambda: done.append("step")
    subject.turn(2)
    assert done == ["cpu", "given back", "step", "step", "step", "given back"]


def test_memory_is_not_kept_where_it_was_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr("scd_plugin.bench.worker.keep_freed_memory", done.append)
    monkeypatch.setattr("scd_plugin.bench.worker.give_freed_memory_back", lambda: done.append("given back"))
    subject = Subject(Entry("scd:size=tiny", replace(TINY, keep_memory=False)), "forward")
    subject.prepare()
    subject._step = lambda: done.append("step")
    subject.turn(2)
    assert done == ["step", "step"]


def test_settings_reach_the_step() -> None:
    subject = Subject(Entry("dense:size=tiny", replace(TINY, batch=2, in_channels=2, crop=(32, 32, 16))), "forward")
    subject.prepare()
    assert subject.image.shape == (2, 2, 32, 32, 16)
    assert subject.network(subject.image).shape == (2, 3, 32, 32, 16)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ValueError("crop must be even; got 7"), "crop must be even; got 7"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to"), "the memory of the device is not enough"),
        (RuntimeError("shapes do not match\n  at line 3"), "RuntimeError: shapes do not match"),
        (AssertionError(), "AssertionError: "),
    ],
    ids=["ours", "memory", "first line", "no words"],
)
def test_errors_become_one_sentence(error: Exception, sentence: str) -> None:
    assert _sentence(error) == sentence
