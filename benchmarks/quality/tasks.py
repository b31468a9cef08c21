"""What the study segments: tasks with their cases, loaded and preprocessed once, and one fixed split each."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lesions import lesion_cases
from monai.transforms import EnsureChannelFirst, LoadImage, NormalizeIntensity, Resize
from monai.utils import convert_to_tensor
from torch import Tensor

from scd_plugin.demo.synthetic import make_case

SPLIT_SEED = 2303
LONGEST_ACDC = 192
"""voxels of the longer in-plane axis: the stored spacing is nominal, the field of view alike"""


@dataclass(frozen=True)
class Case:
    """One image with its labels."""

    name: str
    image: Tensor
    """(1, *size), zero mean and unit deviation"""
    label: Tensor
    """(1, *size), class numbers as floats"""


@dataclass(frozen=True)
class Task:
    """A segmentation task, the crops it is trained on, and the augmentation that does no harm to its anatomy."""

    name: str
    num_classes: int
    crop: tuple[int, int, int]
    patch: tuple[int, int, int]
    load: Callable[[Path], list[Case]]
    validation_share: float
    flips: tuple[int, ...] = ()
    rotate: tuple[float, float, float] = (0.15, 0.15, 0.15)
    translate: tuple[int, int, int] = (3, 3, 3)
    batch: int = 2
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """edges of a voxel, by which nnU-Net's network is planned"""
    recall: bool = False
    """whether recall is counted by component size"""


def shared_folder() -> Path:
    """Where the data lies: `SCD_SHARED`, or `shared` beside the repository."""
    return Path(os.environ.get("SCD_SHARED", Path(__file__).resolve().parents[2].parent / "shared"))


def split(cases: Sequence[Case], validation_share: float) -> tuple[list[Case], list[Case]]:
    """Part the cases into training and validation, the same way each time; frames of one patient stay together."""
    groups = sorted({patient(case.name) for case in cases})
    count = round(validation_share * len(groups))
    chosen = {groups[i] for i in np.random.default_rng(SPLIT_SEED).permutation(len(groups))[:count]}
    training = [case for case in cases if patient(case.name) not in chosen]
    return training, [case for case in cases if patient(case.name) in chosen]


def patient(name: str) -> str:
    """Return the patient of a case, whose frames are called patientNNN_frameMM; other cases have one each."""
    return name.partition("_frame")[0]


def _folder_cases(folder: Path, suffix: str, longest: int | None = None) -> list[Case]:
    """Cases of a folder with `imagesTr` and `labelsTr`; `longest` resizes in-plane to so many voxels."""
    labels = sorted((folder / "labelsTr").glob("*.nii.gz"))
    if not labels:
        msg = f"no labels in {folder / 'labelsTr'}; name the data's folder with --shared or SCD_SHARED"
        raise FileNotFoundError(msg)
    return [_read(folder / "imagesTr", path, suffix, longest) for path in labels]


def _read(images: Path, label_path: Path, suffix: str, longest: int | None) -> Case:
    name = label_path.name.removesuffix(".nii.gz")
    load, channel_first = LoadImage(image_only=True), EnsureChannelFirst(channel_dim="no_channel")
    image = channel_first(load(images / f"{name}{suffix}.nii.gz"))
    label = channel_first(load(label_path))
    if longest is not None:
        height, width, depth = image.shape[1:]
        scale = longest / max(height, width)
        size = (round(height * scale), round(width * scale), depth)
        image, label = Resize(size, mode="trilinear")(image), Resize(size, mode="nearest")(label)
    return _case(name, image, label)


def _case(name: str, image: Tensor, label: Tensor) -> Case:
    image = NormalizeIntensity()(image)
    return Case(name, *(convert_to_tensor(part, dtype=torch.float32, track_meta=False) for part in (image, label)))


def _synthetic(_: Path) -> list[Case]:
    return [_case(*drawn) for drawn in lesion_cases(200)]


def _demo(_: Path) -> list[Case]:
    drawn = [make_case(np.random.default_rng(number)) for number in range(40)]
    return [
        _case(f"case_{i:03d}", *(torch.from_numpy(volume)[None] for volume in pair)) for i, pair in enumerate(drawn)
    ]


TASKS = {
    task.name: task
    for task in (
        Task(
            "left_atrium",
            num_classes=2,
            crop=(72, 64, 44),
            patch=(8, 8, 4),
            load=lambda shared: _folder_cases(shared / "data" / "Dataset010_LeftAtrium", "_0000"),
            validation_share=0.3,
        ),
        Task(
            "hippocampus",
            num_classes=3,
            crop=(40, 56, 40),
            patch=(4, 4, 4),
            load=lambda shared: _folder_cases(shared / "data" / "Task04_Hippocampus", ""),
            validation_share=0.2,
            flips=(0,),
        ),
        Task(
            "acdc",
            num_classes=4,
            crop=(96, 96, 8),
            patch=(8, 8, 1),
            load=lambda shared: _folder_cases(shared / "data" / "Dataset027_ACDC", "_0000", LONGEST_ACDC),
            validation_share=0.3,
            rotate=(0.0, 0.0, 0.5),
            translate=(6, 6, 0),
            spacing=(1.5, 1.5, 10.0),
        ),
        Task(
            "lesions",
            num_classes=2,
            crop=(48, 48, 32),
            patch=(4, 4, 4),
            load=_synthetic,
            validation_share=0.2,
            flips=(0, 1, 2),
            recall=True,
        ),
        Task("demo", num_classes=5, crop=(48, 48, 48), patch=(8, 8, 8), load=_demo, validation_share=0.3),
    )
}
