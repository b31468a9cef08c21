"""A whole image, from its file to a file with its label map: what a user waits for, with a clock on every stage."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import torch
from monai.data import MetaTensor
from monai.transforms import LoadImage, NormalizeIntensity, ResampleToMatch, SaveImage, Spacing
from torch import nn

from scd_plugin.bench.settings import Settings
from scd_plugin.bench.steps import Amp
from scd_plugin.bench.windows import Windows

__all__ = ["WholeCase"]

T = TypeVar("T")


class WholeCase:
    """Called, it segments the image of the settings once; `seconds` then has the time of each of `CASE_STAGES`.

    Reading, resampling and writing are MONAI's and alike for every network.

    Args:
        network: in evaluation mode.
        settings: with an image.
        amp: context of the forward passes.

    Raises:
        ValueError: if the image has other channels than the settings.
    """

    def __init__(self, network: nn.Module, settings: Settings, amp: Amp) -> None:
        self.settings = settings
        self.seconds: dict[str, float] = {}
        self.segment = Windows(network, settings, amp)
        channels = len(self._read())
        if channels != settings.in_channels:
            msg = f"in-channels must be {channels}, the channels of {settings.image}; got {settings.in_channels}"
            raise ValueError(msg)

    def __call__(self) -> None:
        """Read, resample, segment window by window, resample the label map back, and write it."""
        image = self._timed("read", self._read)
        small = self._timed("resample", self._resample, image)
        label = self._timed("network", self.segment, small)
        whole = self._timed("resample back", ResampleToMatch(mode="nearest"), label, image)
        with TemporaryDirectory() as folder:
            self._timed("write", self._write, whole, Path(folder))

    def _timed(self, stage: str, work: Callable[..., T], *arguments: Any) -> T:
        start = time.perf_counter()
        done = work(*arguments)
        if self.settings.device == "cuda":
            torch.cuda.synchronize()
        self.seconds[stage] = time.perf_counter() - start
        return done

    def _read(self) -> MetaTensor:
        read: MetaTensor = LoadImage(ensure_channel_first=True)(self.settings.image)
        return read

    def _resample(self, image: MetaTensor) -> MetaTensor:
        resampled = Spacing((self.settings.spacing,) * 3, mode="bilinear")(image)
        normalised: MetaTensor = NormalizeIntensity()(resampled)
        return normalised

    def _write(self, label: MetaTensor, folder: Path) -> None:
        SaveImage(output_dir=folder, output_dtype="uint8", separate_folder=False, print_log=False)(label)
