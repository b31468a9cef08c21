"""Measure on a GPU what the project claims, within a few minutes, and write it down as it comes.

    python benchmarks/gpu/gpu_run.py --budget 540 --output gpu.json
    python benchmarks/gpu/gpu_run.py --dry

Steps run in the order of their worth, each in a process of its own, which is ended when its time is up; results so far
are always written. `--dry` rehearses on a CPU with small networks; its numbers mean nothing. `make gpu` calls it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import typer
from gpu_report import markdown
from gpu_steps import STEPS

from scd_plugin.bench.machine import machine, versions

BUDGET = 540.0
# of it stays for what comes after the steps
RESERVE = 5.0


def measure(steps: list[str], budget: float, *, dry: bool, output: Path) -> dict[str, Any]:
    """Carry out steps until the budget in seconds is spent; the output is written after each."""
    until = time.monotonic() + budget - RESERVE
    results: dict[str, Any] = {
        "created": f"{datetime.now(timezone.utc):%Y-%m-%d}",
        "dry": dry,
        "budget_seconds": budget,
        "machine": machine("cpu" if dry else "cuda"),
        "versions": versions(),
        "rows": [],
    }
    for name in steps:
        left = until - time.monotonic()
        least = STEPS[name].least_seconds
        results["rows"] += _rows(name, left, dry=dry) if left > least else [_skipped(name, f"needs {least:.0f} s")]
        _write(results, output)
    return results


def _rows(name: str, seconds: float, *, dry: bool) -> list[dict[str, Any]]:
    """Run a step in a process of its own."""
    typer.echo(f"{name}, at most {seconds:.0f} s", err=True)
    with TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.jsonl"
        rows.touch()
        words = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("gpu_steps.py")), name, str(rows)]
        try:
            # what a step does not notice itself ends it a little later
            done = subprocess.run(
                [*words, str(seconds - 2), *["--dry"] * dry],
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
            )
            problem = (done.stderr.strip().splitlines() or ["no word"])[-1] if done.returncode else ""
        except subprocess.TimeoutExpired:
            problem = "its time was up"
        found = [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()]
    return found + ([_skipped(name, problem)] if problem else [])


def _skipped(step: str, why: str) -> dict[str, Any]:
    return {"step": step, "skipped": why}


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
    results = measure(arguments.steps, arguments.budget, dry=arguments.dry, output=arguments.output)
    typer.echo(markdown(results))


if __name__ == "__main__":
    main()
