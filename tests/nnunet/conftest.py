"""Trainer objects without a data set: plans and dataset.json are made here, nnU-Net's folders are temporary."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

STRIDES = [[1, 1, 1], *[[2, 2, 2]] * 3]


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, str(tmp_path / name))


@pytest.fixture
def make_trainer() -> Callable[..., Any]:
    """Makes a trainer of a class; `initialize=True` also builds its network."""

    def make(
        trainer: type,
        *,
        edge: int = 32,
        num_classes: int = 2,
        num_channels: int = 1,
        strides: list[list[int]] = STRIDES,
        architecture: dict[str, Any] | None = None,
        device: str = "cpu",
        initialize: bool = False,
        regions: dict[str, Any] | None = None,
    ) -> Any:
        configuration = {
            "patch_size": [edge, edge, edge],
            "batch_size": 2,
            "batch_dice": False,
            "spacing": [1.0, 1.0, 1.0],
            "data_identifier": "nnUNetPlans_3d_fullres",
            "preprocessor_name": "DefaultPreprocessor",
            "use_mask_for_norm": [False] * num_channels,
            "architecture": architecture or {"arch_kwargs": {"strides": strides}},
        }
        plans = {
            "dataset_name": "Dataset901_Test",
            "plans_name": "nnUNetPlans",
            "image_reader_writer": "SimpleITKIO",
            "transpose_forward": [0, 1, 2],
            "transpose_backward": [0, 1, 2],
            "foreground_intensity_properties_per_channel": {},
            "label_manager": "LabelManager",
            "configurations": {"3d_fullres": configuration},
            "continue_training": False,
        }
        labels = {"background": 0, **(regions or {f"organ_{i}": i for i in range(1, num_classes + 1)})}
        dataset = {
            "channel_names": {str(i): "CT" for i in range(num_channels)},
            "labels": labels,
            "file_ending": ".nii.gz",
            **({"regions_class_order": list(range(1, len(regions) + 1))} if regions else {}),
        }
        made = trainer(plans, "3d_fullres", 0, dataset, torch.device(device))
        if initialize:
            # nnU-Net looks at the files' ending
            folder = Path(made.preprocessed_dataset_folder)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "case_0.b2nd").touch()
            made.initialize()
        return made

    return make
