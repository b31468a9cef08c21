from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from scd_plugin.bench import run
from scd_plugin.bench.crew import WorkerError
from scd_plugin.bench.entries import Entry
from scd_plugin.bench.messages import Description, Prepared
from scd_plugin.bench.run import run_bench, run_length
from scd_plugin.bench.settings import SETTINGS

SETTING = replace(SETTINGS["quick"], contestants=("scd", "dense", "unetr"), repeats=2, turn_seconds=1.0)


class Actors:
    """A crew that plays: UNETR cannot be built, the dense twin gives up in its second turn of training."""

    asked: ClassVar[list[tuple[str, str, str]]] = []

    def __init__(self, entries: list[Entry], mode: str, *, cuda: bool) -> None:
        assert not cuda
        self.mode = mode
        Actors.asked.append((mode, "crew", ",".join(entry.contestant for entry in entries)))

    def prepare(self, entry: Entry) -> Prepared:
        if entry.contestant == "unetr":
            msg = "needs another crop"
            raise WorkerError(msg)
        return Prepared(0.25, 100, 300, 200)

    def turn(self, entry: Entry, steps: int) -> float:
        assert steps == 4
        Actors.asked.append((self.mode, "turn", entry.contestant))
        if (self.mode, entry.contestant) == ("train", "dense") and Actors.asked.count(Actors.asked[-1]) == 2:
            msg = "is tired"
            raise WorkerError(msg)
        return 0.5

    def peak(self, entry: Entry) -> int:
        return 280 if entry.contestant == "dense" else 320

    def describe(self, entry: Entry) -> Description:
        Actors.asked.append((self.mode, "describe", entry.contestant))
        if entry.contestant == "primus-s":
            msg = "cannot be counted"
            raise WorkerError(msg)
        return Description(7, 70, {"decoder": 1.0})

    def close(self) -> None:
        Actors.asked.append((self.mode, "close", ""))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str]]:
    monkeypatch.setattr(run, "Crew", Actors)
    monkeypatch.setattr(Actors, "asked", [])
    return Actors.asked


def test_order_and_failures(asked: list[tuple[str, str, str]]) -> None:
    told: list[str] = []
    results = run_bench(SETTING, report=told.append)
    assert asked == [
        ("forward", "crew", "scd,dense,unetr"),
        ("forward", "turn", "scd"),
        ("forward", "turn", "dense"),
        ("forward", "turn", "scd"),
        ("forward", "describe", "scd"),
        ("forward", "turn", "dense"),
        ("forward", "describe", "dense"),
        ("forward", "close", ""),
        ("train", "crew", "scd,dense"),
        ("train", "turn", "scd"),
        ("train", "turn", "dense"),
        ("train", "turn", "scd"),
        ("train", "turn", "dense"),
        ("train", "close", ""),
    ]
    ours, dense, unetr = results["entries"]
    assert ours["modes"]["train"] == {"seconds": [0.5, 0.5], "steps": 4, "before_bytes": 100, "peak_bytes": 320}
    assert (ours["parameters"], ours["macs"], ours["parts"], ours["keep_ratio"]) == (7, 70, {"decoder": 1.0}, 0.25)
    assert list(dense["modes"]) == ["forward"]
    assert dense["modes"]["forward"]["peak_bytes"] == 300
    assert dense["problems"] == {"train": "is tired"}
    assert unetr["modes"] == {}
    assert unetr["problems"] == {"forward": "needs another crop"}
    assert told[0] == "forward, warm-up: scd at 32, batch 1"
    assert told[3] == "forward, repeat 1 of 2: scd at 32, batch 1"
    assert len(told) < run_length(SETTING) == 18


def test_results_tell_where_they_come_from(asked: list[tuple[str, str, str]]) -> None:
    results: Any = run_bench(replace(SETTING, contestants=("scd",)), grow="batch", values=("1", "2"))
    assert asked
    assert json.loads(json.dumps(results)) == results
    assert results["schema"] == 1
    assert results["command"].startswith("scd bench scd --settings quick")
    assert results["command"].endswith("--grow batch --values 1,2")
    assert results["grow"] == {"variable": "batch", "values": ["1", "2"]}
    assert [entry["batch"] for entry in results["entries"]] == [1, 2]
    assert results["machine"]["cores"] >= 1
    assert results["machine"]["bfloat16"] in ("AMX", "AVX512-BF16", None)
    assert results["machine"]["gpu"] is None
    assert results["versions"]["torch"]
    assert {"scd_plugin", "python", "monai", "nnunetv2"} <= set(results["versions"])


def test_volumes_are_told_apart(asked: list[tuple[str, str, str]]) -> None:
    settings = replace(SETTING, contestants=("scd",), modes=("forward",))
    results = run_bench(settings, grow="volume", values=("32", "48x32x64"))
    assert [(entry["volume"], entry["windows"]) for entry in results["entries"]] == [
        ([32, 32, 32], 1),
        ([48, 32, 64], 6),
    ]
    assert results["command"].endswith("--mode forward --turn-seconds 1.0 --grow volume --values 32,48x32x64"), asked
    assert results["settings"]["volume"] is None


def test_speed_without_a_description(asked: list[tuple[str, str, str]]) -> None:
    (result,) = run_bench(replace(SETTING, contestants=("primus-s",)))["entries"]
    assert ("train", "describe", "primus-s") in asked, "and is tried again"
    assert list(result["modes"]) == ["forward", "train"]
    assert result["problems"] == {"description": "cannot be counted"}
    assert result["parameters"] is None


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match="device 'cuda' was asked for and PyTorch sees no GPU; use --device cpu"):
        run_bench(replace(SETTING, device="cuda"))
