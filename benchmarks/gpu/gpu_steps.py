"""What is measured on a GPU, in the order of its worth: each step gives rows as long as its time lasts.

    python benchmarks/gpu/gpu_steps.py STEP ROWS UNTIL [--dry]

is how `gpu_run.py` calls a step: in a process of its own, which appends a line of JSON to a file for each row. UNTIL is
a time by `time.monotonic`, which is one clock for all processes of a machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NamedTuple

import torch
from fed_batches import fed_batches
from gpu_clocks import captured, device_seconds, host_seconds, kernels
from nnunet_there import nnunet_runs
from trainer_steps import trainer_steps
from whole_case import whole_case

from scd_plugin.bench.bench_settings import NAMED, BenchSettings
from scd_plugin.bench.contestants import parse_contestant
from scd_plugin.bench.timed_steps import autocast, for_inference, random_batch, training_loss
from scd_plugin.bench.worker import reason

REPOSITORY = Path(__file__).resolve().parents[2]
# by what a reader wants to know first
CONTESTANTS = (
    "scd:keep_ratio=0.25", "dense", "fast", "dense-light", "nnunet", "subvoxel", "dense-subvoxel", "scd",
    "scd-primus-m:keep_ratio=0.25", "primus-m", "scd-plain", "dense-plain", "early", "unetr",
)  # fmt: skip
DRY = ("scd:size=tiny", "dense:size=tiny", "nnunet")
SHORT = ("scd:keep_ratio=0.25", "dense", "fast", "dense-light", "nnunet")
SCALE = 1024.0
# compilations would take all of the time
TESTS = (
    *(sys.executable, "-m", "pytest", "-q", "--maxfail=5", "-p", "no:cacheprovider"),
    *("-m", "gpu and not slow", "-k", "not compiled"),
)
TESTS_SECONDS = 150.0
"""of the budget, at most"""
Row = dict[str, Any]


class Where(NamedTuple):
    """The device and its time."""

    cuda: bool
    until: float
    """by `time.monotonic`"""
    dry: bool = False
    """a rehearsal: small networks and crops, whose numbers mean nothing"""

    def left(self) -> float:
        """Seconds."""
        return self.until - time.monotonic()


class Step(NamedTuple):
    """A part of the run."""

    least_seconds: float
    """with less it is not begun; its imports take some of them"""
    rows: Callable[[Where], Iterator[Row]]


def machine(where: Where) -> Iterator[Row]:
    """How fast memory and matrix products are, and what the start of a kernel costs."""
    device, cuda = "cuda" if where.cuda else "cpu", where.cuda
    numbers = torch.empty(2**30 if cuda else 2**20, dtype=torch.uint8, device=device)
    copy = torch.empty_like(numbers)

    def copied() -> None:
        copy.copy_(numbers)

    seconds = device_seconds(captured(copied, cuda=cuda), cuda=cuda)
    yield {"what": "copy", "tb_per_second": 2 * numbers.numel() / seconds / 1e12}
    size = 8192 if cuda else 256
    matrix = torch.randn(size, size, device=device, dtype=torch.float16 if cuda else torch.float32)

    def multiplied() -> None:
        torch.mm(matrix, matrix)

    seconds = device_seconds(captured(multiplied, cuda=cuda), cuda=cuda)
    yield {"what": "matrix product", "tflop_per_second": 2 * size**3 / seconds / 1e12}
    one = torch.zeros(1, device=device)

    def many() -> None:
        for _ in range(200):
            one.add_(1)

    yield {
        "what": "small kernel",
        "device_us": device_seconds(captured(many, cuda=cuda), cuda=cuda) / 200 * 1e6,
        "host_us": host_seconds(many, cuda=cuda) / 200 * 1e6,
    }


def correctness(where: Where) -> Iterator[Row]:
    """The quick half of the tests that need a GPU."""
    command = [*TESTS, *["--collect-only"] * where.dry, *gpu_test_files()]
    with TemporaryFile("w+") as output:
        try:
            seconds = min(where.left(), TESTS_SECONDS)
            code = subprocess.run(
                command, cwd=REPOSITORY, stdout=output, stderr=output, timeout=max(1, seconds), check=False
            ).returncode
        except subprocess.TimeoutExpired:
            code = None
        output.seek(0)
        lines = output.read().strip().splitlines()
    summary = lines[-1] if lines else ""
    # no code: its time was up
    yield {"what": "tests", "exit_code": code, "summary": summary, "last_lines": lines[-30:] if code != 0 else []}


def gpu_test_files() -> list[str]:
    """Files with tests that need a GPU, as far as their packages are there; a machine for measuring may lack some."""
    found = [path for path in sorted((REPOSITORY / "tests").rglob("test_*.py")) if "mark.gpu" in path.read_text()]
    if not nnunet_runs():
        found = [path for path in found if not {"nnunet", "e2e"} & set(path.parts)]
    return [str(path) for path in found]


def speed(
    mode: str,
    crop: int,
    batch: int = 2,
    dtype: str = "float16",
    contestants: tuple[str, ...] = CONTESTANTS,
    *,
    compiled: bool = False,
) -> Callable[[Where], Iterator[Row]]:
    """Make a step that times contestants at a mode, eager or compiled."""

    def rows(where: Where) -> Iterator[Row]:
        if where.dry and compiled:
            yield {"skipped": "a rehearsal compiles nothing"}
            return
        settings = BenchSettings(
            name="btcv",
            **{**NAMED["btcv"], "crop": (32 if where.dry else crop,) * 3},
            batch=batch,
            dtype=dtype if where.cuda else "bfloat16",
            device="cuda" if where.cuda else "cpu",
            compiled=compiled,
        )
        longest = 0.0
        for label in DRY if where.dry else contestants:
            begin = time.monotonic()
            facts = {"contestant": label, "mode": mode, "crop": settings.crop[0], "batch": batch}
            facts |= {"dtype": settings.dtype, "compiled": compiled}
            if where.left() < longest:
                yield {**facts, "skipped": "time is short"}
                continue
            yield {**facts, "load": os.getloadavg()[0], **_timed(label, mode, settings)}
            longest = max(longest, time.monotonic() - begin)

    return rows


def profiles(mode: str, crop: int) -> Callable[[Where], Iterator[Row]]:
    """Make a step that sums up the kernels of one pass or training step, of the contestants that matter most first."""

    def rows(where: Where) -> Iterator[Row]:
        edge = 32 if where.dry else crop
        device, dtype = ("cuda", "float16") if where.cuda else ("cpu", "bfloat16")
        named = {**NAMED["btcv"], "crop": (edge,) * 3}
        settings = BenchSettings(name="btcv", **named, batch=2, dtype=dtype, device=device)
        for label in DRY if where.dry else dict.fromkeys((*SHORT, *CONTESTANTS)):
            facts = {"contestant": label, "of": f"{mode}, {edge}³, batch 2"}
            if where.left() < 10:
                yield {**facts, "skipped": "time is short"}
                continue
            try:
                network = parse_contestant(label).build(settings).to(device)
                work = (_inference if mode == "inference" else _training)(network, network, settings)
                yield {**facts, **kernels(work, cuda=where.cuda)._asdict()}
            except Exception as error:  # noqa: BLE001  (a contestant that fails is a result)
                yield {**facts, "error": reason(error)}

    return rows


def _timed(label: str, mode: str, settings: BenchSettings) -> Row:
    """Time one contestant: as a graph, as eager calls, and its memory; what goes wrong is a row, too."""
    cuda = settings.device == "cuda"
    begin = time.monotonic()
    try:
        torch.manual_seed(0)
        network = parse_contestant(label).build(settings).to(settings.device)
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        run: Any = torch.compile(network, dynamic=False) if settings.compiled else network
        work = (_inference if mode == "inference" else _training)(network, run, settings)
        host = host_seconds(work, cuda=cuda)
        peak = torch.cuda.max_memory_allocated() if cuda else None
        seconds = device_seconds(captured(work, cuda=cuda), cuda=cuda)
        row: Row = {"seconds": seconds, "host_seconds": host, "peak_bytes": peak}
    except Exception as error:  # noqa: BLE001  (a contestant that fails is a result)
        row = {"error": reason(error)}
    finally:
        torch.compiler.reset()
        if cuda:
            torch.cuda.empty_cache()
    return {**row, "all_seconds": time.monotonic() - begin}


def _inference(network: Any, run: Any, settings: BenchSettings) -> Callable[[], None]:
    # a step times its own graph
    for_inference(network)
    (image, _), amp = random_batch(settings), autocast(settings, cache=False)

    def work() -> None:
        with torch.no_grad(), amp():
            run(image)

    return work


def _training(network: Any, run: Any, settings: BenchSettings) -> Callable[[], None]:
    """A training step that the host never waits in: the loss is scaled by a constant."""
    network.train()
    (image, label), amp, loss_of = random_batch(settings), autocast(settings, cache=False), training_loss()
    cuda = settings.device == "cuda"
    weights = list(network.parameters())
    optimizer = torch.optim.AdamW(weights, lr=3e-4, betas=(0.9, 0.98), weight_decay=0.05, fused=True, capturable=cuda)

    def work() -> None:
        optimizer.zero_grad(set_to_none=False)
        with amp():
            loss = loss_of(run(image), label)
        (loss * SCALE).backward()
        torch._foreach_mul_([weight.grad for weight in weights if weight.grad is not None], 1 / SCALE)
        torch.nn.utils.clip_grad_norm_(weights, 1)
        optimizer.step()

    return work


STEPS: dict[str, Step] = {
    "machine": Step(5, machine),
    "correctness": Step(45, correctness),
    "inference-96": Step(25, speed("inference", 96)),
    "training-96": Step(25, speed("training", 96)),
    "inference-128": Step(25, speed("inference", 128)),
    "training-128": Step(25, speed("training", 128)),
    "whole-case": Step(60, whole_case),
    "profiles": Step(25, profiles("inference", 96)),
    "trainer-steps": Step(30, trainer_steps),
    # all of them would take all of the time
    "inference-96-compiled": Step(30, speed("inference", 96, contestants=SHORT, compiled=True)),
    "training-96-compiled": Step(30, speed("training", 96, contestants=SHORT, compiled=True)),
    "fed-batches": Step(35, fed_batches),
    "inference-96-batch-1": Step(20, speed("inference", 96, batch=1, contestants=SHORT)),
    "inference-96-batch-4": Step(20, speed("inference", 96, batch=4, contestants=SHORT)),
    "inference-96-bfloat16": Step(20, speed("inference", 96, dtype="bfloat16", contestants=SHORT)),
    "training-96-bfloat16": Step(20, speed("training", 96, dtype="bfloat16", contestants=SHORT)),
}
"""Name to step: what fits into the time."""

REST: dict[str, Step] = {
    **{
        f"profiles-{crop}-{mode}": Step(20, profiles(mode, crop))
        for crop, mode in ((96, "training"), (128, "inference"), (128, "training"))
    },
    **{
        f"{mode}-{crop}-batch-{batch}-{dtype}": Step(20, speed(mode, crop, batch=batch, dtype=dtype))
        for dtype, batches in (("float16", (1, 4)), ("bfloat16", (2, 1, 4)))
        for batch in batches
        for crop in (96, 128)
        for mode in ("inference", "training")
    },
}
"""All other settings, for who has an hour."""
STEPS |= REST


def main() -> None:
    """Carry out one step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("rows", type=Path)
    parser.add_argument("until", type=float)
    parser.add_argument("--dry", action="store_true")
    arguments = parser.parse_args()
    torch.backends.cudnn.benchmark = True
    where = Where(not arguments.dry, arguments.until, arguments.dry)
    for row in STEPS[arguments.step].rows(where):
        with arguments.rows.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": arguments.step, **row}) + "\n")


if __name__ == "__main__":
    main()
