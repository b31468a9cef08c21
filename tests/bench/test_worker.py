from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from scd_plugin.bench.bench_settings import NAMED, BenchSettings
from scd_plugin.bench.contestants import parse_contestant
from scd_plugin.bench.machine import peak_bytes
from scd_plugin.bench.timed_steps import MODES, Mode, Step, forward_step, seconds_per_step
from scd_plugin.bench.worker import Entry, NoResult, Subject, answer, begin, reason

TINY = BenchSettings(name="quick", **{**NAMED["quick"], "turn_seconds": 0.001})


def subject(mode: str = "forward", contestant: str = "scd:size=tiny", settings: BenchSettings = TINY) -> Subject:
    return Subject(Entry(parse_contestant(contestant), settings), MODES[mode])


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before, benchmark = torch.get_num_threads(), torch.backends.cudnn.benchmark
    yield
    torch.set_num_threads(before)
    torch.backends.cudnn.benchmark = benchmark


@pytest.mark.parametrize("mode", ["forward", "train"])
def test_prepare_turn_describe(mode: str) -> None:
    one = subject(mode)
    ready = one.prepare()
    assert ready.steps == 1
    assert ready.memory == ready.peak_bytes - ready.before_bytes >= 0
    assert one.network.training == (mode == "train")
    seconds, peak, stages = one.turn(2)
    assert seconds > 0
    # what is mapped of libraries grows, and does not count
    assert peak > ready.before_bytes // 2
    assert stages is None
    num_parameters, macs, parts = one.describe()
    assert num_parameters == sum(parameter.numel() for parameter in one.network.parameters())
    assert macs > 0
    assert list(parts) == ["tokenizer", "before pruning", "after pruning", "completion", "decoder", "other"]


def test_a_turn_is_filled_with_whole_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    for seconds, steps in ((4.0, 1), (1.0, 1), (0.25, 4), (0.003, 333)):
        monkeypatch.setattr("scd_plugin.bench.worker.seconds_per_step", lambda *_, seconds=seconds, **__: seconds)
        assert subject(settings=replace(TINY, turn_seconds=1.0)).prepare().steps == steps


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
    subject(mode, settings=replace(TINY, warmup=warmup)).prepare()
    assert held == [steps]


def test_a_step_that_is_warmed_up_by_another_is_timed_alone() -> None:
    def slow(network: nn.Module, settings: BenchSettings) -> Step:
        assert (type(network).__name__, settings) == ("SCDUNETR", TINY)
        return lambda: done.append("slow") or {"read": 0.5}  # type: ignore[func-returns-value]

    def quick(network: nn.Module, settings: BenchSettings) -> Step:
        step = forward_step(network, settings)
        return lambda: done.append("quick") or step()  # type: ignore[func-returns-value]

    done: list[str] = []
    one = Subject(Entry(parse_contestant("scd:size=tiny"), TINY), Mode("case", slow, warm_up=quick))
    assert one.prepare().steps == 1
    assert done == ["quick"]
    assert one.turn(1)[2] == {"read": 0.5}
    assert done[-1] == "slow"


def test_turns_on_a_gpu_get_their_memory_back_first(
    fake_events: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Networks share the memory of a GPU, and what a step takes from the driver is not to be in its time."""
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: done.append("emptied"))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 7)
    done: list[str] = []

    def step() -> None:
        fake_events(0.5 if "step" in done else 100.0)
        done.append("step")

    one = subject(settings=replace(TINY, device="cuda"))
    one._step = one._warm_up = step
    assert one.turn(2) == (pytest.approx(0.5), 7, None)
    assert done == ["step", "step", "step", "emptied"]


def test_turns_with_kept_memory_get_it_back_first(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr("scd_plugin.bench.worker.keep_freed_memory", lambda device: done.append(device) or True)
    monkeypatch.setattr("scd_plugin.bench.worker.give_freed_memory_back", lambda: done.append("given back"))
    one = subject()
    one.prepare()
    one._step = one._warm_up = lambda: done.append("step")
    one.turn(2)
    assert done == ["cpu", "given back", "step", "step", "step", "given back"]


def test_memory_is_not_kept_where_it_was_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr("scd_plugin.bench.worker.keep_freed_memory", done.append)
    monkeypatch.setattr("scd_plugin.bench.worker.give_freed_memory_back", lambda: done.append("given back"))
    one = subject(settings=replace(TINY, keep_memory=False))
    one.prepare()
    one._step = one._warm_up = lambda: done.append("step")
    one.turn(2)
    assert done == ["step", "step"]


def test_settings_reach_the_step() -> None:
    shapes: list[tuple[int, ...]] = []
    one = subject(contestant="dense:size=tiny", settings=replace(TINY, batch=2, in_channels=2, crop=(32, 32, 16)))
    one.prepare()
    one.network.register_forward_hook(lambda _, inputs, out: shapes.extend((inputs[0].shape, out.shape)))
    one.turn(1)
    assert set(shapes) == {(2, 2, 32, 32, 16), (2, 3, 32, 32, 16)}


def test_entry_says_where_it_works() -> None:
    assert Entry(parse_contestant("scd"), replace(TINY, crop=(32, 32, 16))).label == "scd at crop 32x32x16, batch 1"


def test_contestants_and_modes_travel_as_objects() -> None:
    for text in ("scd:size=tiny,prune_after=1x2x3", "nnunet:spacing=3x1x1", "primus-s", "unetr"):
        entry = Entry(parse_contestant(text), TINY)
        there = pickle.loads(pickle.dumps((entry, MODES["train"])))  # noqa: S301
        assert there[0].contestant.label == text
        assert there[0].contestant.changes == entry.contestant.changes
        assert there[1] == MODES["train"]


@pytest.fixture
def _process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scd_plugin.bench.worker._of_this_process", [])
    monkeypatch.setattr("scd_plugin.bench.worker.Path", lambda *_: Path("/dev/null/no"))


@pytest.mark.usefixtures("_process")
@pytest.mark.filterwarnings("ignore")
def test_what_a_network_raises_is_a_reason() -> None:
    begin(Entry(parse_contestant("unetr"), replace(TINY, crop=(40, 40, 40))), MODES["forward"])
    with pytest.raises(NoResult, match="unetr needs a crop of multiples of 16 voxels; got 40, 32 is near"):
        answer("prepare")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ValueError("crop must be even; got 7"), "crop must be even; got 7"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to"), "OutOfMemoryError: CUDA out of memory. Tried to"),
        (RuntimeError("shapes do not match\n  at line 3"), "RuntimeError: shapes do not match"),
        (AssertionError(), "AssertionError: "),
    ],
    ids=["ours", "memory", "first line", "no words"],
)
def test_errors_become_one_sentence(error: Exception, sentence: str) -> None:
    assert reason(error) == sentence
