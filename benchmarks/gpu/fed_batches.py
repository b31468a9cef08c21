"""How many training steps a second nnU-Net's loader can feed, augmented by its processes or on the device.

    python benchmarks/gpu/fed_batches.py --workers 4 8 12 16 --crop 96 --batch 2 --device cuda

Batches are made, brought to the device and thrown away: no network computes. Cases are noise with 13 organs, stored as
nnU-Net stores them. Alone on a quiet machine; what else runs on the processors is measured, too.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import typer
from nnunet_there import NO_NNUNET, nnunet_runs

CASES, CLASSES = 4, 14
WORKERS = (4, 8, 12, 16)
SECONDS = 8.0
WAYS = ("cpu", "device")
"""as `scd_augment_on` has them"""
Row = dict[str, Any]


def fed_batches(where: Any) -> Iterator[Row]:
    """Measure each way with each number of processes, as a step of the GPU run, as long as its time lasts."""
    if not nnunet_runs():
        yield {"skipped": NO_NNUNET}
        return
    workers, crop, seconds = ((1,), 32, 0.1) if where.dry else (WORKERS, 96, SECONDS)
    device = torch.device("cuda" if where.cuda else "cpu")
    longest = 0.0
    with TemporaryDirectory() as folder:
        write_cases(Path(folder), crop)
        for number in workers:
            for way in WAYS:
                begin = time.monotonic()
                if where.left() < max(longest, seconds):
                    yield {"skipped": f"{way} with {number} processes: time is short"}
                    continue
                yield measured(Path(folder), way, number, crop=crop, batch=2, device=device, seconds=seconds)
                longest = max(longest, time.monotonic() - begin)


def measured(
    folder: Path, way: str, workers: int, *, crop: int, batch: int, device: torch.device, seconds: float
) -> Row:
    """Batches a second, once those made meanwhile are gone from the queues.

    Args:
        folder: of `write_cases`.
        way: one of `WAYS`.
        workers: processes of nnU-Net's loader.
        crop: edge of the network's input, voxels.
        batch: samples.
        device: where batches go, and where they are augmented the second way.
        seconds: at least that long, and ten batches.
    """
    from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter

    from scd_plugin.nnunet.augmentation.device_batches import DeviceAugmenter
    from scd_plugin.nnunet.augmentation.device_transforms import on_device

    crops, transform = crops_and_transform(folder, crop, batch)
    if way == "cpu":
        crops.transforms = transform
    cached = max(6, workers // 2)
    # as nnU-Net has it
    loader = NonDetMultiThreadedAugmenter(
        crops, None, workers, num_cached=cached, pin_memory=device.type == "cuda", wait_time=0.002
    )
    batches = loader if way == "cpu" else DeviceAugmenter(loader, on_device(transform, device), device)

    def take(number: int) -> None:
        for _ in range(number):
            next(batches)["data"].to(device, non_blocking=True)
        if device.type == "cuda":
            torch.cuda.synchronize()

    try:
        # two queues, and one in the hands of each process
        take(2 * cached + workers)
        begin, count = time.perf_counter(), 0
        while (spent := time.perf_counter() - begin) < seconds or count < 10:
            take(1)
            count += 1
    finally:
        loader._finish()  # noqa: SLF001  (as nnU-Net ends it)
    facts = {"what": "batches fed", "augmentation": way, "workers": workers, "crop": crop, "batch": batch}
    return {**facts, "load": os.getloadavg()[0], "steps_per_second": count / spent}


def crops_and_transform(folder: Path, crop: int, batch: int) -> tuple[Any, Any]:
    """nnU-Net's loader for cases of the folder, which crops, and its transforms for training."""
    from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    patch = [crop] * 3
    trainer: Any = SimpleNamespace(
        configuration_manager=SimpleNamespace(patch_size=patch), print_to_log_file=lambda *_: None
    )
    rotation, flat, initial, axes = nnUNetTrainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size(trainer)
    transform = nnUNetTrainer.get_training_transforms(patch, rotation, None, axes, flat)
    labels: Any = SimpleNamespace(all_labels=list(range(CLASSES)), has_ignore_label=False)
    return nnUNetDataLoader(nnUNetDatasetBlosc2(str(folder)), batch, initial, patch, labels, 0.33), transform


def write_cases(folder: Path, crop: int) -> None:
    """Write cases of twice the crop's edge, the way nnU-Net's preprocessing does."""
    from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2

    draw, edge = np.random.default_rng(0), 2 * crop
    image = draw.normal(size=(1, edge, edge, edge)).astype(np.float32)
    label = np.zeros(image.shape, np.int8)
    for organ in range(1, CLASSES):
        start = draw.integers(0, edge * 3 // 4, 3)
        label[0][tuple(slice(at, at + edge // 4) for at in start)] = organ
    places = {organ: np.argwhere(label == organ) for organ in range(1, CLASSES)}
    sizes = {}
    for suffix, array in (("", image), ("_seg", label)):
        sizes["blocks" + suffix], sizes["chunks" + suffix] = comp_blosc2_params(
            array.shape, (crop, crop, crop), array.itemsize
        )
    for case in range(CASES):
        nnUNetDatasetBlosc2.save_case(image, label, {"class_locations": places}, str(folder / f"case_{case}"), **sizes)


def table(rows: Sequence[Row]) -> str:
    """Steps a second, one line a number of processes."""
    lines = [f"| Processes | {' | '.join(WAYS)} |", "|---" * (1 + len(WAYS)) + "|"]
    for workers in dict.fromkeys(row["workers"] for row in rows):
        found = {row["augmentation"]: row["steps_per_second"] for row in rows if row["workers"] == workers}
        lines.append(f"| {workers} | {' | '.join(f'{found[way]:.1f}' for way in WAYS)} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=list(WORKERS), help="processes of nnU-Net's loader")
    parser.add_argument("--crop", type=int, default=96, help="edge in voxels")
    parser.add_argument("--batch", type=int, default=2, help="samples")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="at least, for each")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    asked = parser.parse_args()
    if min(*asked.workers, asked.crop, asked.batch, 1) < 1:
        parser.error("--workers, --crop and --batch must be 1 or more")
    how = {"crop": asked.crop, "batch": asked.batch, "seconds": asked.seconds, "device": torch.device(asked.device)}
    with TemporaryDirectory() as folder:
        write_cases(Path(folder), asked.crop)
        rows = [measured(Path(folder), way, number, **how) for number in asked.workers for way in WAYS]
    typer.echo(f"steps a second that are fed, {asked.crop}³, batch {asked.batch}, {asked.device}\n{table(rows)}")


if __name__ == "__main__":
    main()
