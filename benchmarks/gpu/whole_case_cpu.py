"""A whole case on a CPU, command to file, by engine and precision: seconds, memory, and how many voxels they change.

    python benchmarks/gpu/whole_case_cpu.py docs/benchmarks/commands/ct.json

runs each of `RUNS` once on the image of `whole_case.IMAGE`, with weights drawn at random and without mirroring.
`benchmarks/results_page.py` makes the table in docs/results.md of the file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, NamedTuple

import numpy as np
import SimpleITK as sitk
import typer
from whole_case import COMMANDS, IMAGE, drawn_model_folder, shape_of_image, variables, write_data_set

from scd_plugin.bench.machine import machine, versions
from scd_plugin.whole_files import moved_into_place

PATCH = 96
"""voxels of the windows' edges"""


class Run(NamedTuple):
    """One command."""

    command: str
    trainer: str
    options: str = ""


FAST, SMALL_FAST, NNUNET = "nnUNetTrainerSCD_fast", "nnUNetTrainerSCD_small_fast", "nnUNetTrainer"
SUBVOXEL = "nnUNetTrainerSCD_subvoxel"
OPENVINO = "--engine openvino --dtype bfloat16"
OPTIONS = ("", "--dtype bfloat16", "--engine openvino", OPENVINO, f"{OPENVINO} --resampling torch")
"""The first is what the others are compared with, voxel by voxel."""
RUNS = (
    *(Run("scd predict", trainer, options) for trainer in (FAST, SMALL_FAST) for options in OPTIONS),
    *(Run("scd predict", SUBVOXEL, options) for options in (OPTIONS[0], OPTIONS[-1])),
    Run("nnUNetv2_predict", NNUNET),
    *(Run("scd predict", NNUNET, options) for options in OPTIONS),
)


def predicted(root: Path, run: Run, model: Path) -> tuple[dict[str, Any], np.ndarray]:
    """Run a command: its seconds, peak memory in bytes, the stages that it reports itself, and the label map.

    Raises:
        subprocess.CalledProcessError: if the command fails.
    """
    output, times = root / "predictions", root / "times.json"
    words = [sys.executable, "-W", "ignore", "-c", COMMANDS[run.command], *("-i", str(root / "images"))]
    words += ["-o", str(output), "-m", str(model), *run.options.split()]
    if run.command == "scd predict":
        words += ["--json", str(times), "--device", "cpu", "--no-mirroring"]
    else:
        words += ["-f", "0", "-device", "cpu", "--disable_tta"]
    begin = time.perf_counter()
    with subprocess.Popen(words, env=variables(root), stdout=subprocess.DEVNULL) as process:
        # of this child alone, which `resource` does not tell
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - begin
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, words)
    row = {**run._asdict(), "seconds": seconds, "peak_bytes": used.ru_maxrss * 1024}
    if run.command == "scd predict":
        row["stages"] = json.loads(times.read_text())["runs"][0]["cases"][0]["seconds"]
        times.unlink()
    written = next(output.glob("*.nii.gz"))
    label_map = sitk.GetArrayFromImage(sitk.ReadImage(str(written)))
    written.unlink()
    return row, label_map


def measured(root: Path, runs: Sequence[Run]) -> Iterator[dict[str, Any]]:
    """Measure runs one after the other; each with the share of voxels that the first of its trainer has alike."""
    (root / "images").mkdir()
    (root / "images" / "case_0000.nii.gz").symlink_to(IMAGE.resolve())
    data_set = write_data_set(root, shape_of_image())
    first: dict[str, np.ndarray] = {}
    for run in runs:
        row, label_map = predicted(root, run, drawn_model_folder(root, run.trainer, data_set, PATCH))
        row["alike"] = float((label_map == first.setdefault(run.trainer, label_map)).mean())
        typer.echo(f"{run.command} {run.trainer} {run.options}: {row['seconds']:.0f} s, {row['alike']:.4f} alike")
        yield row


def facts() -> Mapping[str, Any]:
    """When and on what."""
    created = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    return {"created": created, "image": IMAGE.name, "machine": machine("cpu"), "versions": versions()}


def main(
    output: Annotated[Path, typer.Argument(help="JSON file to write.")],
    trainers: Annotated[list[str] | None, typer.Option("--trainer", help="Those alone; may come again.")] = None,
) -> None:
    """Measure, and write what there is after each run."""
    if not IMAGE.is_file():
        typer.echo(f"error: there is no image {IMAGE}; name one by the variable IMAGE", err=True)
        raise typer.Exit(2)
    output.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    with TemporaryDirectory() as folder:
        for row in measured(Path(folder), [run for run in RUNS if not trainers or run.trainer in trainers]):
            rows.append(row)
            with moved_into_place(output) as partial:
                partial.write_text(json.dumps({**facts(), "runs": rows}, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
