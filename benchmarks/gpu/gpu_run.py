"""Measure on a GPU what the project claims, within a few minutes, and write it down as it comes.

    python benchmarks/gpu/gpu_run.py --budget 540 --output gpu.json
    python benchmarks/gpu/gpu_run.py --dry

Steps run in the order of their worth, each in a process of its own with half of the time that is left at most, so that
others find some; when it is up the process ends with all that it started. Results so far are always written, rows as
they come in a file beside the output that is removed in the end. `--dry` rehearses on a CPU with small networks; its
numbers mean nothing. `make gpu` calls it.
"""

# ruff: noqa: E402  (the clock starts before what takes long to import)
from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

# importing is a part of the budget
BEGIN = time.monotonic()

import torch
import typer
from gpu_report import markdown
from gpu_steps import STEPS

from scd_plugin.bench.machine import machine, versions

BUDGET = 540.0
# of it stays for what comes after the steps
RESERVE = 5.0
# a step that overlooks its end is killed so many seconds later
GRACE = 2.0


def measure(steps: list[str], budget: float, *, dry: bool, output: Path, begin: float | None = None) -> dict[str, Any]:
    """Carry out steps until the budget in seconds is spent, from `begin` or now; the output is written after each."""
    until = (time.monotonic() if begin is None else begin) + budget - RESERVE
    file = output.with_suffix(".jsonl")
    file.write_text("", encoding="utf-8")
    results: dict[str, Any] = {
        "created": f"{datetime.now(timezone.utc):%Y-%m-%d}",
        "dry": dry,
        "budget_seconds": budget,
        "machine": machine("cpu" if dry else "cuda"),
        "versions": versions(),
        "rows": [],
    }
    for name in steps:
        least, left = STEPS[name].least_seconds, until - time.monotonic()
        # a step that takes all it is given leaves as much for the others
        most = left if name == steps[-1] else max(least, left / 2)
        problem = _run(name, most, file, dry=dry) if left > least else f"needs {least:.0f} s"
        if problem:
            with file.open("a", encoding="utf-8") as rows:
                # the line before may be cut off
                rows.write("\n" + json.dumps({"step": name, "skipped": problem}) + "\n")
        results["rows"] = _whole_rows(file)
        _write(results, output)
    file.unlink()
    return results


def _whole_rows(file: Path) -> list[dict[str, Any]]:
    """Rows that a step had time to write to their end."""
    rows = []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        with suppress(json.JSONDecodeError):
            rows.append(json.loads(line))
    return rows


def _run(name: str, seconds: float, rows: Path, *, dry: bool) -> str:
    """Run a step in a process of its own, and end whatever it leaves running; returns what went wrong."""
    typer.echo(f"{name}, at most {seconds:.0f} s", err=True)
    # by the clock of the machine, so that a step's start counts
    until = time.monotonic() + seconds
    words = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("gpu_steps.py")), name, str(rows)]
    words += [str(until - GRACE), *["--dry"] * dry]
    with TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=said, start_new_session=True)
        try:
            code = process.wait(max(1, seconds))
        except subprocess.TimeoutExpired:
            return "its time was up"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        said.seek(0)
        return (said.read().strip().splitlines() or ["no word"])[-1] if code else ""


def _write(results: dict[str, Any], output: Path) -> None:
    partial = output.with_suffix(".partial")
    partial.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    partial.replace(output)
    output.with_suffix(".md").write_text(markdown(results), encoding="utf-8")


def main() -> None:
    """Read the options; end with one sentence where there is no GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=float, default=BUDGET, help=f"seconds in all; {BUDGET:.0f} without it")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS), help="all without it")
    parser.add_argument("--output", type=Path, default=Path("gpu.json"), help="JSON file; the page goes beside it")
    parser.add_argument("--dry", action="store_true", help="rehearse on a CPU with small networks")
    arguments = parser.parse_args()
    if not arguments.dry and not torch.cuda.is_available():
        parser.error("PyTorch sees no CUDA device here; --dry rehearses on the CPU (make gpu DRY=1)")
    if arguments.output.suffix != ".json":
        parser.error(f"--output must end in .json; got {arguments.output}")
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    # steps have sessions of their own, and would go on
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    results = measure(arguments.steps, arguments.budget, dry=arguments.dry, output=arguments.output, begin=BEGIN)
    typer.echo(markdown(results))


if __name__ == "__main__":
    main()
