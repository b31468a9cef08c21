"""A whole case, command to file: `scd predict` beside `nnUNetv2_predict_from_modelfolder`, with drawn weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Any

import torch
from nnunet_there import NO_NNUNET, nnunet_runs

REPOSITORY = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("SCD_SHARED", REPOSITORY.parent / "shared"))
IMAGE = Path(os.environ.get("IMAGE", SHARED / "data" / "totalsegmentator" / "example_ct.nii.gz"))
DEVICE = "cuda"
CLASSES = 14
SPACING = 1.5
"""mm"""
CONFIGURATION = "3d_fullres"
ON_DEVICE = ("--resampling", "torch", "--batch", "4")
"""options with which all of `scd predict` is on the device"""
# command, trainer, options
RUNS = (
    ("scd predict", "nnUNetTrainerSCD_fast", ON_DEVICE),
    ("nnUNetv2_predict", "nnUNetTrainer", ()),
    ("scd predict", "nnUNetTrainerSCD_fast", ()),
    ("scd predict", "nnUNetTrainerSCD", ON_DEVICE),
    ("nnUNetv2_predict", "nnUNetTrainerSCD_fast", ()),
    ("scd predict", "nnUNetTrainer", ON_DEVICE),
)
COMMANDS = {
    # not the scripts, which a machine has only if the package is installed
    "scd predict": "import sys; sys.argv[:1] = ['scd', 'predict']; from scd_plugin.cli import app; app()",
    "nnUNetv2_predict": (
        "from nnunetv2.inference.predict_from_raw_data import predict_entry_point_modelfolder as run; run()"
    ),
}
DATASET = "Dataset900_WholeCase"


def whole_case(where: Any) -> Iterator[dict[str, Any]]:
    """Time each of `RUNS` once, as long as the time lasts; a rehearsal has one trainer and stops before the network."""
    if not nnunet_runs():
        yield {"skipped": NO_NNUNET}
        return
    if not IMAGE.is_file():
        yield {"skipped": f"there is no image {IMAGE}; name one by IMAGE="}
        return
    with TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "images").mkdir()
        (root / "images" / "case_0000.nii.gz").symlink_to(IMAGE.resolve())
        data_set = write_data_set(root, shape_of_image())
        longest = 0.0
        for command, trainer, options in RUNS[:1] if where.dry else RUNS:
            facts = {"command": " ".join((command, *options)), "trainer": trainer}
            if where.left() < max(longest, 10):
                yield {**facts, "skipped": "time is short"}
                continue
            begin = time.monotonic()
            model = drawn_model_folder(root, trainer, data_set)
            if where.dry:
                yield {**facts, "skipped": f"a rehearsal; the model has {len(list(model.rglob('*')))} files"}
                return
            yield {**facts, **_predicted(root, command, options, model, where.left())}
            longest = max(longest, time.monotonic() - begin)


def shape_of_image() -> list[int]:
    """Voxels of the image, resampled."""
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(IMAGE))
    reader.ReadImageInformation()
    return [
        max(1, round(size * edge / SPACING)) for size, edge in zip(reader.GetSize()[::-1], reader.GetSpacing()[::-1])
    ]


def write_data_set(root: Path, shape: list[int]) -> Path:
    """Write a data set that nnU-Net can plan, whose cases have a shape in voxels; returns where plans belong."""
    raw, preprocessed = root / "raw" / DATASET, root / "preprocessed" / DATASET
    for place in (raw / "imagesTr", raw / "labelsTr", preprocessed, root / "results"):
        place.mkdir(parents=True)
    labels = {"background": 0, **{f"organ {number}": number for number in range(1, CLASSES)}}
    dataset = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 1, "file_ending": ".nii.gz"}
    intensities = {"mean": 0.0, "std": 300.0, "percentile_00_5": -900.0, "percentile_99_5": 900.0}
    fingerprint = {
        "spacings": [[SPACING] * 3],
        "shapes_after_crop": [shape],
        "median_relative_size_after_cropping": 1.0,
        "foreground_intensity_properties_per_channel": {
            "0": {**intensities, "median": 0.0, "min": -1000.0, "max": 3000.0}
        },
    }
    (raw / "dataset.json").write_text(json.dumps({**dataset, "overwrite_image_reader_writer": "SimpleITKIO"}))
    for place in (raw / "imagesTr" / "case_0000.nii.gz", raw / "labelsTr" / "case.nii.gz"):
        # trainers are measured without it, and nnU-Net's planner passes over links to nothing
        place.symlink_to(IMAGE.resolve()) if IMAGE.is_file() else place.touch()
    (preprocessed / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))
    (preprocessed / "dataset.json").write_text(json.dumps(dataset))
    return preprocessed


def drawn_model_folder(root: Path, trainer: str, data_set: Path, patch: int | None = None) -> Path:
    """Write a model folder with drawn weights, once for each trainer; `patch` as in `drawn_model`."""
    model = root / "results" / f"{trainer}__nnUNetPlans__3d_fullres"
    if not model.exists():
        # a process of its own, since nnU-Net reads its folders when it is imported
        code = str(Path(__file__).with_name("drawn_model.py"))
        words = [sys.executable, "-W", "ignore", code, str(data_set), trainer, str(model)]
        words += [] if patch is None else [str(patch)]
        subprocess.run(words, env=variables(root), check=True, capture_output=True)
    return model


def _predicted(root: Path, command: str, options: Sequence[str], model: Path, seconds: float) -> dict[str, Any]:
    """Run a command on the case: its seconds, the GPU memory it took, and the stages that it reports itself."""
    output = root / "predictions"
    times = root / "times.json"
    folders = ["-i", str(root / "images"), "-o", str(output), "-m", str(model)]
    words = [sys.executable, "-W", "ignore", "-c", COMMANDS[command], *folders, *options]
    words += ["--json", str(times), "--device", DEVICE] if command == "scd predict" else ["-f", "0", "-device", DEVICE]
    load, begin = os.getloadavg()[0], time.perf_counter()
    try:
        with _memory_taken() as taken:
            ended = subprocess.run(
                words, env=variables(root), capture_output=True, text=True, timeout=max(1, seconds), check=False
            )
    except subprocess.TimeoutExpired:
        return {"skipped": "time is short"}
    if ended.returncode:
        return {"error": (ended.stderr.strip() or ended.stdout.strip())[-300:]}
    row = {"seconds": time.perf_counter() - begin, "gpu_bytes": taken[0], "load": load}
    if command == "scd predict":
        row["stages"] = json.loads(times.read_text())["runs"][0]["cases"][0]["seconds"]
    for file in output.glob("*"):
        file.unlink()
    return row


@contextmanager
def _memory_taken() -> Iterator[list[int]]:
    """The most bytes of the GPU that others took meanwhile, looked at twenty times a second."""
    taken, done = [0], Event()
    free = torch.cuda.mem_get_info()[0]

    def look() -> None:
        while not done.wait(0.05):
            taken[0] = max(taken[0], free - torch.cuda.mem_get_info()[0])

    watcher = Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield taken
    finally:
        done.set()
        watcher.join()


def variables(root: Path) -> dict[str, str]:
    """Environment of a command: nnU-Net's folders below the root, and our trainers."""
    folders = {f"nnUNet_{name}": str(root / name) for name in ("raw", "preprocessed", "results")}
    # where the package is installed, nnU-Net finds the trainers without it
    trainers = {"nnUNet_extTrainer": str(REPOSITORY / "nnunet_trainers")}
    return {**trainers, **os.environ, **folders}
