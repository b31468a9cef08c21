"""How to predict."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from scd_plugin.nnunet.model.recipe import NnunetRecipe
from scd_plugin.nnunet.model.trained_model import CHECKPOINT
from scd_plugin.nnunet.predict.resampling import RESAMPLING
from scd_plugin.processor import bfloat16_instructions

__all__ = ["DEVICES", "DTYPES", "PredictSettings", "check_cascade"]

DEVICES = ("auto", "cpu", "cuda")
DTYPES = ("float32", "bfloat16", "auto")


@dataclass(frozen=True)
class PredictSettings:
    """The defaults give what `nnUNetv2_predict` gives with the same folds.

    Raises:
        ValueError: if a value is none of those allowed, or there is no such device.
    """

    folds: tuple[str, ...] = ()
    """Empty for all that are trained."""
    checkpoint: str = CHECKPOINT
    """File in each fold."""
    device: str = "auto"
    mirroring: bool = True
    """nnU-Net's test-time augmentation, over the axes that the trainer allowed."""
    step_size: float = 0.5
    """Step of the window as a share of it."""
    batch: int = 1
    """Windows to a forward pass; with more than one, logits differ by rounding."""
    resampling: str = "nnunet"
    """What takes logits back to the image's grid."""
    dtype: str = "float32"
    """What the network computes in on a CPU; `nnUNetv2_predict` computes in float16 on a GPU. See `network_dtype`."""
    threads: int | None = None
    """Of the network on a CPU; None for those of `nnUNetv2_predict`. With others, sums may round differently."""
    skip_empty: bool = False
    """Compute constant windows once."""
    save_probabilities: bool = False
    keep_existing: bool = False
    """Leave label maps that are there, as nnU-Net's `--continue_prediction` does."""
    previous_stage: Path | None = None
    """Folder with the label maps of a cascade's first stage."""
    times: Path | None = None
    """File for the clock; beside the output without it."""

    def __post_init__(self) -> None:
        for name, allowed in (("device", DEVICES), ("dtype", DTYPES), ("resampling", RESAMPLING)):
            if getattr(self, name) not in allowed:
                msg = f"{name} must be one of {', '.join(allowed)}; got {getattr(self, name)}"
                raise ValueError(msg)
        if self.device == "cuda" and not torch.cuda.is_available():
            msg = "device is cuda, but PyTorch finds no CUDA device here; take auto or cpu"
            raise ValueError(msg)
        if self.dtype == "bfloat16" and self.torch_device.type == "cuda":
            msg = "dtype bfloat16 is for CPUs, on a GPU nnU-Net computes in float16 already; leave it out or take cpu"
            raise ValueError(msg)
        if self.threads is not None and self.torch_device.type == "cuda":
            msg = "threads are those of the network on a CPU; leave them out on a GPU or take cpu"
            raise ValueError(msg)

    @property
    def torch_device(self) -> torch.device:
        """The device, `auto` decided."""
        return torch.device("cuda" if self.device != "cpu" and torch.cuda.is_available() else "cpu")

    @property
    def network_dtype(self) -> str:
        """What the network computes in: `auto` is bfloat16 on a CPU with instructions for it, else float32."""
        if self.torch_device.type == "cuda":
            return "float16"
        if self.dtype == "auto":
            return "float32" if bfloat16_instructions() is None else "bfloat16"
        return self.dtype


def check_cascade(recipe: NnunetRecipe, configuration: str, previous_stage: Path | None) -> None:
    """Raise ValueError where a previous stage is needed and not given, or given and not needed, or no folder."""
    before = recipe.configuration.previous_stage_name
    if before is not None and previous_stage is None:
        msg = (
            f"configuration {configuration} is the second stage of a cascade: predict the images with {before} first, "
            "and give the folder of its label maps as previous stage (--previous-stage)"
        )
        raise ValueError(msg)
    if before is None and previous_stage is not None:
        msg = f"configuration {configuration} is no second stage of a cascade; leave out the previous stage"
        raise ValueError(msg)
    if previous_stage is not None and not previous_stage.is_dir():
        msg = f"the previous stage must be a folder of label maps; there is no {previous_stage}"
        raise ValueError(msg)
