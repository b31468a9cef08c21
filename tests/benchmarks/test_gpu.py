"""The run on a GPU, as far as a CPU goes: its clocks, its budget, its rows and its page."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gpu_run
import gpu_steps
import numpy as np
import psutil
import pytest
import SimpleITK as sitk
import torch
import whole_case
from gpu_clocks import captured, device_seconds, host_seconds, kernels
from gpu_report import TWINS, markdown
from gpu_steps import REST, STEPS, Step, Where

from scd_plugin.bench.contestants import parse_contestant


def where(seconds: float = 600) -> Where:
    return Where(cuda=False, until=time.monotonic() + seconds, dry=True)


def made(rows: list[dict[str, Any]], *, dry: bool = False) -> dict[str, Any]:
    machine = {"gpu": "Some GPU", "processor": "Some CPU"}
    return {
        "created": "2026-01-02",
        "dry": dry,
        "machine": machine,
        "versions": {"torch": "2", "x": None},
        "rows": rows,
    }


def timed(contestant: str, seconds: float, mode: str = "inference") -> dict[str, Any]:
    setting = {"mode": mode, "crop": 96, "batch": 2, "dtype": "float16", "compiled": False}
    measured = {"seconds": seconds, "host_seconds": 2 * seconds, "load": 1.5, "peak_bytes": 3_000_000_000}
    return {"step": f"{mode}-96", "contestant": contestant, **setting, **measured}


class TestClocks:
    def test_work_is_done(self) -> None:
        done: list[int] = []

        def work() -> None:
            done.append(1)
            time.sleep(0.01)

        assert device_seconds(captured(work, cuda=False), cuda=False) >= 0.01
        assert host_seconds(work, cuda=False) >= 0.01
        assert len(done) >= 4

    def test_kernels_are_counted(self) -> None:
        one = torch.ones(8, 8)

        def work() -> None:
            for _ in range(3):
                torch.mm(one, one)

        found = kernels(work, cuda=False)
        assert {name: count for name, count, _ in found.dearest}["aten::mm"] == 3
        assert found.seconds > 0
        assert found.count >= 3


class TestSteps:
    def test_contestants_can_be_built(self) -> None:
        assert [parse_contestant(label).label for label in (*gpu_steps.CONTESTANTS, *gpu_steps.DRY)]
        assert set(gpu_steps.SHORT) < set(gpu_steps.CONTESTANTS)

    @pytest.mark.parametrize("mode", ["inference", "training"])
    def test_speed(self, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(gpu_steps, "DRY", ("dense:size=tiny", "scd:size=tiny,prune_after=99"))
        first, second = gpu_steps.speed(mode, 96, batch=1)(where())
        facts = ("contestant", "mode", "crop", "batch", "dtype", "compiled")
        assert [first[name] for name in facts] == ["dense:size=tiny", mode, 32, 1, "bfloat16", False]
        assert 0 < first["seconds"] < 60
        assert first["peak_bytes"] is None
        # a contestant that fails is a row, and the others go on
        assert "prune_after" in second["error"]

    def test_time_is_short(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(gpu_steps, "_timed", lambda *_: time.sleep(0.05) or {"seconds": 1.0})
        rows = list(gpu_steps.speed("inference", 96)(where(0.06)))
        assert [row.get("skipped") for row in rows] == [None, "time is short", "time is short"]

    def test_a_rehearsal_compiles_nothing(self) -> None:
        assert list(STEPS["inference-96-compiled"].rows(where())) == [{"skipped": "a rehearsal compiles nothing"}]


class TestRun:
    def test_rows_are_written_and_what_fails_is_said(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A step that ends, one that breaks, one that hangs, and one for which no time is left."""

        def step(_: Where) -> Iterator[dict[str, Any]]:
            yield {}

        monkeypatch.setattr(gpu_run, "STEPS", {name: Step(least, step) for name, least in STEPS_OF_THE_TEST.items()})
        script = tmp_path / "gpu_steps.py"
        script.write_text(SCRIPT)
        monkeypatch.setattr(gpu_run, "__file__", str(tmp_path / "gpu_run.py"))
        output = tmp_path / "gpu.json"
        gpu_run.measure(list(STEPS_OF_THE_TEST), 14, dry=True, output=output)
        assert not output.with_suffix(".jsonl").exists()
        # what a step started ends with it
        assert ended(int((tmp_path / "child").read_text()))
        rows = json.loads(output.read_text())["rows"]
        assert rows == [
            {"step": "good", "what": "it", "value": 1},
            {"step": "bad", "what": "half", "value": 2},
            {"step": "bad", "skipped": "ValueError: it broke"},
            {"step": "slow", "skipped": "its time was up"},
            {"step": "late", "skipped": "needs 100 s"},
        ]
        assert "- bad: ValueError: it broke" in output.with_suffix(".md").read_text()

    def test_a_step_has_half_of_what_is_left(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        given: list[float] = []

        def run(name: str, seconds: float, rows: Path, **_: bool) -> str:
            given.append(seconds)
            # a line that was cut off
            rows.write_text('{"step": "good", "what": "it", "value": 1}\n{"step": "go')
            return "it broke" if name == "bad" else ""

        monkeypatch.setattr(gpu_run, "STEPS", {name: Step(least, iter) for name, least in STEPS_OF_THE_TEST.items()})
        monkeypatch.setattr(gpu_run, "_run", run)
        monkeypatch.setattr(gpu_run.time, "monotonic", lambda: 1000.0)
        output = tmp_path / "gpu.json"
        found = gpu_run.measure(["good", "bad"], 100 + gpu_run.RESERVE, dry=True, output=output, begin=960.0)
        assert given == [30, 60]
        assert [row.get("skipped") for row in found["rows"]] == [None, "it broke"]
        assert found["budget_seconds"] == 100 + gpu_run.RESERVE

    def test_no_gpu(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(sys, "argv", ["gpu_run.py"])
        with pytest.raises(SystemExit) as ended:
            gpu_run.main()
        assert ended.value.code == 2
        assert "PyTorch sees no CUDA device here; --dry rehearses on the CPU" in capsys.readouterr().err

    def test_every_step_has_time_within_the_budget(self) -> None:
        assert list(STEPS)[:4] == ["machine", "correctness", "inference-96", "training-96"]
        assert sum(step.least_seconds for name, step in STEPS.items() if name not in REST) < gpu_run.BUDGET
        # every setting that was asked for, once
        assert list(STEPS)[-len(REST) :] == list(REST)
        assert len(REST) == 3 + 5 * 2 * 2


def ended(number: int) -> bool:
    """Whether a process ends within some seconds; nobody may have asked for its end yet."""
    for _ in range(100):
        try:
            if psutil.Process(number).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.1)
    return False


STEPS_OF_THE_TEST = {"good": 0.0, "bad": 0.0, "slow": 0.0, "late": 100.0}
SCRIPT = """
import subprocess, sys, time
from pathlib import Path
name, rows, until = sys.argv[1:4]
here = Path(__file__).parent
assert float(until) > time.monotonic()
if name == "slow":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    (here / "child").write_text(str(child.pid))
    time.sleep(60)
line = '{"step": "%s", "what": "%s", "value": %d}'
with open(rows, "a") as file:
    file.write(line % ((name, "it", 1) if name == "good" else (name, "half", 2)) + chr(10))
if name == "bad":
    raise ValueError("it broke")
"""


class TestCorrectness:
    def test_what_failed_is_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        code = "print('FAILED tests/a.py'); print('1 failed'); raise SystemExit(1)"
        monkeypatch.setattr(gpu_steps, "TESTS", [sys.executable, "-c", code])
        (row,) = gpu_steps.correctness(where())
        assert row == {
            "what": "tests",
            "exit_code": 1,
            "summary": "1 failed",
            "last_lines": ["FAILED tests/a.py", "1 failed"],
        }

    def test_takes_a_part_of_the_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        code = "import time; print('so far', flush=True); time.sleep(60)"
        monkeypatch.setattr(gpu_steps, "TESTS", [sys.executable, "-c", code])
        monkeypatch.setattr(gpu_steps, "TESTS_SECONDS", 2.0)
        (row,) = gpu_steps.correctness(where())
        assert (row["exit_code"], row["summary"]) == (None, "so far")


class TestPage:
    def test_ratios_are_of_replays(self) -> None:
        page = markdown(made([timed("dense", 0.006), timed("scd:keep_ratio=0.25", 0.003), timed("nnunet", 0.0045)]))
        assert page.startswith("# GPU: Some GPU\n\nMeasured on 2026-01-02 by `make gpu`. torch 2.\n")
        assert "## Inference, 96³, batch 2, float16, eager" in page
        assert "| `scd:keep_ratio=0.25` | 3.00 | 666.7 | 6.00 | 1.5 | 3.00 | 2.00 | 1.50 | 2.00 | 100 |" in page
        assert "rehearsal" not in page

    def test_training_counts_steps(self) -> None:
        page = markdown(made([timed("dense", 0.05, "training")], dry=True))
        assert "| `dense` | 50.00 | 20.0 | 100.00 | 1.5 | 3.00 | 1.00 | - | - | 100 |" in page
        assert "**A rehearsal on a CPU with small networks: the numbers mean nothing.**" in page

    def test_every_network_has_its_twin(self) -> None:
        kinds = {label.partition(":")[0] for label in gpu_steps.CONTESTANTS}
        assert set(TWINS) < kinds
        assert set(TWINS.values()) < kinds
        page = markdown(made([timed("dense-light", 0.004), timed("fast", 0.002)]))
        assert "| `fast` | 2.00 | 1000.0 | 4.00 | 1.5 | 3.00 | - | - | 2.00 | - |" in page

    def test_cases_kernels_and_what_is_missing(self) -> None:
        page = markdown(
            made(
                [
                    {"step": "machine", "what": "copy", "tb_per_second": 2.5},
                    {
                        "step": "whole-case",
                        "command": "scd predict",
                        "trainer": "T",
                        "seconds": 4.25,
                        "gpu_bytes": 2e9,
                        "load": 1.5,
                        "stages": {"network": 1.25, "resample": 0.5},
                    },
                    {
                        "step": "profiles",
                        "contestant": "fast",
                        "of": "inference, 96³, batch 2",
                        "seconds": 0.002,
                        "count": 7,
                        "dearest": [["k", 3, 0.001]],
                    },
                    {"step": "profiles", "contestant": "scd", "error": "OutOfMemoryError: no room"},
                    {"step": "training-128", "skipped": "needs 15 s"},
                ]
            )
        )
        assert "- copy: tb per second 2.5" in page
        assert "| `scd predict` | `T` | 4.2 | - | 1.2 | 0.5 | 2.00 | 1.5 |" in page
        assert "`fast`, inference, 96³, batch 2: 7 kernels, 2.00 ms" in page
        assert "| k | 3 | 1.000 |" in page
        assert "- profiles, scd: OutOfMemoryError: no room\n- training-128: needs 15 s\n" in page


class TestWholeCase:
    def test_no_image(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(whole_case, "IMAGE", tmp_path / "absent.nii.gz")
        (row,) = whole_case.whole_case(where())
        assert row["skipped"].endswith("absent.nii.gz; name one by IMAGE=")

    def test_trainers_can_be_planned_without_it(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(whole_case, "IMAGE", tmp_path / "absent.nii.gz")
        whole_case.write_data_set(tmp_path, [32, 32, 32])
        # nnU-Net's planner passes over links to nothing, and finds no case
        found = [path.name for path in sorted((tmp_path / "raw").rglob("*.nii.gz")) if path.is_file()]
        assert found == ["case_0000.nii.gz", "case.nii.gz"]

    @pytest.mark.slow
    def test_commands_run(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """On a CPU both commands segment a small image with drawn weights."""
        image = sitk.GetImageFromArray(np.random.default_rng(0).integers(-100, 200, (40, 40, 40)).astype(np.int16))
        image.SetSpacing((1.5, 1.5, 1.5))
        sitk.WriteImage(image, tmp_path / "ct.nii.gz")
        monkeypatch.setattr(whole_case, "IMAGE", tmp_path / "ct.nii.gz")
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (5, 8))
        options = ("--resampling", "torch")
        runs = (("scd predict", "nnUNetTrainerSCD_demo", options), ("nnUNetv2_predict", "nnUNetTrainerSCD_demo", ()))
        monkeypatch.setattr(whole_case, "RUNS", runs)
        monkeypatch.setattr(whole_case, "DEVICE", "cpu")
        rows = list(whole_case.whole_case(SimpleNamespace(dry=False, left=lambda: 300.0)))
        assert [row["command"] for row in rows] == ["scd predict --resampling torch", "nnUNetv2_predict"]
        assert {row["trainer"] for row in rows} == {"nnUNetTrainerSCD_demo"}
        assert all(row["seconds"] > 0 and row["gpu_bytes"] == 0 for row in rows), rows
        assert rows[0]["stages"]
