from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from scd_plugin.bench import turns
from scd_plugin.bench.bench_settings import NAMED, BenchSettings
from scd_plugin.bench.contestants import parse_contestants
from scd_plugin.bench.results import ModeResult
from scd_plugin.bench.timed_steps import MODES, Mode
from scd_plugin.bench.turns import Crew, measure
from scd_plugin.bench.worker import Entry, NoResult

QUICK = BenchSettings(name="quick", **NAMED["quick"])
BOTH = [MODES["forward"], MODES["train"]]


def entries(*labels: str, **changes: Any) -> list[Entry]:
    return [Entry(contestant, replace(QUICK, **changes)) for contestant in parse_contestants(labels)]


class Actors:
    """A crew that plays: UNETR cannot be built, the dense twin gives up in its second turn of training."""

    asked: ClassVar[list[tuple[str, str, str]]] = []

    def __init__(self, entries: list[Entry], mode: Mode, *, cuda: bool) -> None:
        assert not cuda
        self.mode = mode.name
        Actors.asked.append((self.mode, "crew", ",".join(entry.contestant.label for entry in entries)))

    def ask(self, entry: Entry, method: str, *arguments: Any) -> Any:
        label = entry.contestant.label
        Actors.asked.append((self.mode, method, label))
        if method == "prepare":
            if label == "unetr":
                msg = "needs another crop"
                raise NoResult(msg)
            return ModeResult(steps=4, before_bytes=100, peak_bytes=300)
        if method == "turn":
            assert arguments == (4,)
            if (self.mode, label) == ("train", "dense") and Actors.asked.count(Actors.asked[-1]) == 2:
                msg = "is tired"
                raise NoResult(msg)
            return 0.5, 280 if label == "dense" else 320, {"read": 0.1} if label == "fast" else None
        if label == "primus-s":
            msg = "cannot be counted"
            raise NoResult(msg)
        return 7, 70, {"decoder": 1.0}

    def end(self, entry: Entry) -> None:
        Actors.asked.append((self.mode, "end", entry.contestant.label))

    def close(self) -> None:
        Actors.asked.append((self.mode, "close", ""))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str]]:
    monkeypatch.setattr(turns, "Crew", Actors)
    monkeypatch.setattr(Actors, "asked", [])
    return Actors.asked


def test_order_and_failures(asked: list[tuple[str, str, str]]) -> None:
    told: list[str] = []
    results = measure(entries("scd", "dense", "unetr"), BOTH, command="scd bench", report=told.append)
    assert asked == [
        ("forward", "crew", "scd,dense,unetr"),
        ("forward", "prepare", "scd"),
        ("forward", "prepare", "dense"),
        ("forward", "prepare", "unetr"),
        ("forward", "turn", "scd"),
        ("forward", "turn", "dense"),
        ("forward", "turn", "scd"),
        ("forward", "describe", "scd"),
        ("forward", "end", "scd"),
        ("forward", "turn", "dense"),
        ("forward", "describe", "dense"),
        ("forward", "end", "dense"),
        ("forward", "close", ""),
        ("train", "crew", "scd,dense"),
        ("train", "prepare", "scd"),
        ("train", "prepare", "dense"),
        ("train", "turn", "scd"),
        ("train", "turn", "dense"),
        ("train", "turn", "scd"),
        ("train", "turn", "dense"),
        ("train", "close", ""),
    ]
    ours, dense, unetr = results.entries
    assert ours.modes["train"] == ModeResult(steps=4, before_bytes=100, peak_bytes=320, seconds=[0.5, 0.5])
    assert (ours.parameters, ours.macs, ours.parts, ours.keep_ratio) == (7, 70, {"decoder": 1.0}, 0.25)
    assert list(dense.modes) == ["forward"]
    assert dense.modes["forward"].peak_bytes == 300
    assert dense.problems == {"train": "is tired"}
    assert unetr.modes == {}
    assert unetr.problems == {"forward": "needs another crop"}
    assert told[0] == "forward, warm-up: scd at crop 32, batch 1"
    assert "forward, repeat 1 of 2: dense at crop 32, batch 1" in told


def test_results_tell_where_they_come_from(asked: list[tuple[str, str, str]], tmp_path: Path) -> None:
    grow = {"variable": "batch", "values": ["1", "2"]}
    both = [*entries("scd"), *entries("scd", batch=2)]
    measure(both, BOTH, command="python benchmarks/growth.py", grow=grow).write(tmp_path / "run.json")
    assert asked
    results = json.loads((tmp_path / "run.json").read_text())
    assert results["schema"] == 1
    assert results["command"] == "python benchmarks/growth.py"
    assert results["grow"] == grow
    assert [(entry["contestant"], entry["batch"]) for entry in results["entries"]] == [("scd", 1), ("scd", 2)]
    assert results["settings"]["crop"] == [32, 32, 32]
    assert results["machine"]["cores"] >= 1
    assert results["machine"]["bfloat16"] in ("AMX", "AVX512-BF16", None)
    assert results["machine"]["gpu"] is None
    assert results["versions"]["torch"]
    assert {"scd_plugin", "python", "monai", "nnunetv2"} <= set(results["versions"])


def test_stages_of_every_turn_are_kept(asked: list[tuple[str, str, str]]) -> None:
    (result,) = measure(entries("fast"), BOTH[:1], command="").entries
    assert asked
    assert result.modes["forward"].stages == [{"read": 0.1}] * 2
    assert result.keep_ratio == (0.4, 0.25, 0.25, 0.25)


def test_speed_without_a_description(asked: list[tuple[str, str, str]]) -> None:
    (result,) = measure(entries("primus-s"), BOTH, command="").entries
    assert ("train", "describe", "primus-s") in asked, "and is tried again"
    assert list(result.modes) == ["forward", "train"]
    assert result.problems == {"description": "cannot be counted"}
    assert result.parameters is None


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match="device 'cuda' was asked for and PyTorch sees no GPU; use --device cpu"):
        measure(entries("scd", device="cuda"), BOTH, command="")


@pytest.mark.parametrize(
    ("available", "closed"),
    [
        ([100], []),
        ([60], []),
        ([59, 60], ["nnunet"]),
        ([5, 30, 70], ["nnunet", "dense"]),
        ([5] * 9, ["nnunet", "dense"]),
    ],
    ids=["plenty", "just enough", "one", "two", "all that there are"],
)
def test_who_was_used_last_makes_room(available: list[int], closed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    left = iter(available)

    def memory() -> Iterator[Any]:
        yield SimpleNamespace(total=1000)
        for free in left:
            yield SimpleNamespace(available=free)

    reports = memory()
    monkeypatch.setattr("psutil.virtual_memory", lambda: next(reports))
    everyone = entries("scd", "dense", "nnunet")
    crew = Crew([], MODES["forward"], cuda=False)
    ended: list[str] = []
    monkeypatch.setattr(crew, "end", lambda entry: ended.append(entry.contestant.label))
    crew._live = dict.fromkeys(everyone)  # type: ignore[assignment]
    crew._needs = {everyone[0]: 60}
    crew._make_room(everyone[0])
    assert ended == closed


def test_a_network_not_seen_yet_is_trusted_with_half_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(total=1000, available=499))
    scd, dense = entries("scd", "dense")
    crew = Crew([], MODES["forward"], cuda=False)
    ended: list[Entry] = []
    monkeypatch.setattr(crew, "end", ended.append)
    crew._live = {dense: None}  # type: ignore[dict-item]
    crew._make_room(scd)
    assert ended == [dense]


@pytest.mark.parametrize(
    ("device_is_cuda", "word", "tries"),
    [(True, "CUDA out of memory", 2), (True, "tired", 1), (False, "out of memory", 1)],
)
def test_on_a_gpu_others_leave_where_memory_runs_out(device_is_cuda: bool, word: str, tries: int) -> None:
    scd, dense = entries("scd", "dense")
    crew = Crew([], MODES["forward"], cuda=False)
    crew._cuda = device_is_cuda
    asked: list[int] = []

    class Full:
        def submit(self, *_: Any) -> Any:
            asked.append(len(crew._live))
            return SimpleNamespace(result=self.result)

        def result(self) -> Any:
            if dense in crew._live:
                raise NoResult(word)
            return ModeResult(steps=1, before_bytes=0, peak_bytes=0)

        def shutdown(self) -> None:
            pass

    crew._start = lambda _: Full()  # type: ignore[method-assign, assignment, return-value]
    crew._live = {dense: Full()}  # type: ignore[dict-item]
    if tries == 2:
        assert crew.ask(scd, "prepare").steps == 1
        assert list(crew._live) == [scd]
    else:
        with pytest.raises(NoResult, match=word):
            crew.ask(scd, "prepare")
    assert len(asked) == tries


@pytest.mark.slow
def test_answers_of_a_process_and_its_end() -> None:
    (one,) = entries("scd:size=tiny")
    with closing(Crew([one], MODES["train"], cuda=False)) as crew:
        ready = crew.ask(one, "prepare")
        assert crew.ask(one, "turn", 2)[0] > 0
        num_parameters, macs, parts = crew.ask(one, "describe")
        (process,) = crew._live[one]._processes.values()
        crew.end(one)
        assert not process.is_alive()
    # weights, gradients and AdamW's two moments, of 4 bytes each
    assert ready.memory > 16 * num_parameters
    assert macs > 0
    assert sum(parts.values()) == pytest.approx(1)


@pytest.mark.slow
def test_processes_that_start_from_nothing_as_for_a_gpu() -> None:
    both = entries("scd:size=tiny", "dense:size=tiny")
    with closing(Crew(both, MODES["forward"], cuda=True)) as crew:
        assert len(crew._live) == 2, "at the same time"
        for one in both:
            assert crew.ask(one, "prepare").steps >= 1
            assert crew.ask(one, "turn", 1)[0] > 0
            assert crew.ask(one, "describe")[0] > 1_000_000


@pytest.mark.slow
def test_a_process_that_is_killed_is_a_reason() -> None:
    (one,) = entries("scd:size=tiny")
    with closing(Crew([one], MODES["forward"], cuda=False)) as crew:
        crew.ask(one, "prepare")
        (process,) = crew._live[one]._processes.values()
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(NoResult, match="its process ended without an answer, as it does where memory runs out"):
            crew.ask(one, "turn", 1)
        assert crew.ask(one, "turn", 1)[0] > 0, "and is built again if it is asked for"


@pytest.mark.slow
def test_what_a_network_raises_is_a_reason() -> None:
    (one,) = entries("unetr", crop=(40, 40, 40))
    with (
        closing(Crew([one], MODES["forward"], cuda=False)) as crew,
        pytest.raises(NoResult, match="unetr needs a crop of multiples of 16 voxels; got 40, 32 is near"),
    ):
        crew.ask(one, "prepare")
