"""A whole image, from its file to a file with its label map: what a user waits for, with a clock on every stage.

    python benchmarks/whole_image.py ct.nii.gz scd fast dense nnunet
    python benchmarks/whole_image.py ct.nii.gz scd nnunet --spacing 1 --output docs/benchmarks/ct-cpu.json

Reading, resampling and writing are MONAI's and alike for every network.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, TypeVar

import torch
import typer
from monai.data import MetaTensor
from monai.transforms import LoadImage, NormalizeIntensity, ResampleToMatch, SaveImage, Spacing
from sliding_windows import Windows, WindowSettings
from torch import nn
from whole_image_report import STAGES, markdown

from scd_plugin.bench.bench_settings import command_line, option
from scd_plugin.bench.command import Output, carry_out, with_settings
from scd_plugin.bench.contestants import parse_contestants
from scd_plugin.bench.timed_steps import Mode, forward_step
from scd_plugin.bench.worker import Entry

__all__ = ["CASE", "ImageSettings", "WholeCase"]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ImageSettings(WindowSettings):
    """Settings of a run with an image.

    Raises:
        ValueError: if there is no such image, or the spacing is none.
    """

    image: str = ""
    spacing: float = option("mm per voxel that the image is resampled to; 1.5 without it.", default=1.5)
    modes: tuple[str, ...] = ("forward",)
    """no option: inference alone"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.spacing <= 0:
            msg = f"spacing must be more than 0; got {self.spacing}"
            raise ValueError(msg)


class WholeCase:
    """Called, it segments the image of the settings once, and returns the seconds of each of `STAGES`.

    Args:
        network: put in evaluation mode, without deep supervision.
        settings: with an image.

    Raises:
        ValueError: if the image has other channels than the settings.
    """

    def __init__(self, network: nn.Module, settings: ImageSettings) -> None:
        self.settings = settings
        self.segment = Windows(network, settings)
        channels = len(self._read())
        if channels != settings.in_channels:
            msg = f"in-channels must be {channels}, the channels of {settings.image}; got {settings.in_channels}"
            raise ValueError(msg)

    def __call__(self) -> dict[str, float]:
        """Read, resample, segment window by window, resample the label map back, and write it."""
        seconds: dict[str, float] = {}

        def timed(stage: str, work: Callable[..., T], *arguments: Any) -> T:
            start = time.perf_counter()
            done = work(*arguments)
            if self.settings.device == "cuda":
                torch.cuda.synchronize()
            seconds[stage] = time.perf_counter() - start
            return done

        read, resample, network, resample_back, write = STAGES
        image = timed(read, self._read)
        small = timed(resample, self._resample, image)
        label = timed(network, self.segment, small)
        whole = timed(resample_back, ResampleToMatch(mode="nearest"), label, image)
        with TemporaryDirectory() as folder:
            timed(write, self._write, whole, Path(folder))
        return seconds

    def _read(self) -> MetaTensor:
        read: MetaTensor = LoadImage(ensure_channel_first=True)(self.settings.image)
        return read

    def _resample(self, image: MetaTensor) -> MetaTensor:
        resampled = Spacing((self.settings.spacing,) * 3, mode="bilinear")(image)
        normalised: MetaTensor = NormalizeIntensity()(resampled)
        return normalised

    def _write(self, label: MetaTensor, folder: Path) -> None:
        SaveImage(output_dir=folder, output_dtype="uint8", separate_folder=False, print_log=False)(label)


CASE = Mode("case", WholeCase, warm_up=forward_step)
"""Warmed up on a window."""


@with_settings(ImageSettings)
def main(
    image: Annotated[Path, typer.Argument(help="A file that MONAI reads, such as NIfTI.")],
    contestants: Annotated[
        list[str] | None, typer.Argument(help="Networks, as for scd bench; scd, dense and nnunet without.")
    ] = None,
    *,
    settings: ImageSettings,
    output: Output = None,
) -> None:
    """Segment a whole image with several networks, in windows of the crop, and time every stage. Prints Markdown."""
    if not image.is_file():
        msg = f"image must be a file that MONAI reads, such as NIfTI; got {image}, which is no file"
        raise ValueError(msg)
    labels = contestants or ["scd", "dense", "nnunet"]
    settings = replace(settings, image=str(image))
    carry_out(
        [Entry(contestant, settings) for contestant in parse_contestants(labels)],
        [CASE],
        markdown,
        output,
        command=command_line(["python", "benchmarks/whole_image.py", str(image), *labels], settings),
    )


if __name__ == "__main__":
    typer.run(main)
