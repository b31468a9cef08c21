"""What a run measures and how, as plain values: named settings, their checks, and the command that repeats them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from math import ceil, prod
from pathlib import Path
from types import MappingProxyType

__all__ = [
    "CASE",
    "CASE_STAGES",
    "DTYPES",
    "MODES",
    "SETTINGS",
    "Settings",
    "command_line",
    "crop_text",
    "named_settings",
    "num_windows",
    "parse_crop",
]

MODES = ("forward", "train")
CASE = "case"
"""the mode of a run with an image"""
CASE_STAGES = ("read", "resample", "network", "resample back", "write")
DTYPES = ("float32", "bfloat16", "float16")
DEVICES = ("cpu", "cuda")
EVERYONE = (
    "scd",
    "early",
    "fast",
    "dense",
    "dense-light",
    "unetr",
    "swinunetr",
    "primus-s",
    "primus-m",
    "primusv3-s",
    "scd-primus-s",
    "scd-primus-m",
    "scd-primusv3-s",
    "nnunet",
    "resenc-l",
)


@dataclass(frozen=True)
class Settings:
    """The same for all contestants of a run.

    Raises:
        ValueError: for a value that cannot be, with its name and what is allowed.
    """

    name: str
    in_channels: int
    out_channels: int
    crop: tuple[int, ...]
    """voxels per axis"""
    keep_ratio: float
    """for contestants that prune"""
    contestants: tuple[str, ...] = EVERYONE
    batch: int = 1
    dtype: str = "float32"
    """"float32", or what autocast computes in"""
    device: str = "cpu"
    compiled: bool = False
    """torch.compile, as nnU-Net does on CUDA"""
    threads: int = 1
    """CPU threads"""
    modes: tuple[str, ...] = MODES
    repeats: int = 5
    """turns of each contestant"""
    warmup: int = 2
    """untimed steps after a network was built"""
    turn_seconds: float = 1.0
    """a turn is as many whole steps as fill this, at least one"""
    image: str | None = None
    """a file to segment whole, in windows of `crop`, instead of the modes"""
    spacing: float = 1.5
    """mm per voxel, which the image is resampled to"""
    overlap: float = 0.5
    """share of a window that the next one covers again"""
    keep_memory: bool = True
    """as SCD's trainers and `scd predict` do on a CPU: memory that is freed stays in the process, where that can be"""
    volume: tuple[int, ...] | None = None
    """voxels per axis of noise to segment in windows of `crop`, instead of one batch of windows"""

    def __post_init__(self) -> None:
        positive = (
            "in_channels",
            "out_channels",
            "batch",
            "threads",
            "repeats",
            "warmup",
            "keep_ratio",
            "turn_seconds",
            "spacing",
        )
        for name in positive:
            if getattr(self, name) <= 0:
                msg = f"{name.replace('_', '-')} must be more than 0; got {getattr(self, name)}"
                raise ValueError(msg)
        if self.keep_ratio > 1:
            msg = f"keep-ratio must be in (0, 1], the share of tokens kept at each stage; got {self.keep_ratio}"
            raise ValueError(msg)
        _must_be_sizes("crop", self.crop)
        if self.volume is not None:
            _must_be_sizes("volume", self.volume)
        for name, value, allowed in (("dtype", self.dtype, DTYPES), ("device", self.device, DEVICES)):
            if value not in allowed:
                msg = f"{name} must be one of {', '.join(allowed)}; got {value!r}"
                raise ValueError(msg)
        if not 0 <= self.overlap < 1:
            msg = f"overlap must be in [0, 1), a share of the window; got {self.overlap}"
            raise ValueError(msg)
        if self.image is not None and not Path(self.image).is_file():
            msg = f"image must be a file that MONAI reads, such as NIfTI; got {self.image}, which is no file"
            raise ValueError(msg)
        if not self.modes or not set(self.modes) <= set(MODES):
            msg = f"mode must be one or both of {', '.join(MODES)}; got {', '.join(self.modes) or 'none'}"
            raise ValueError(msg)

    @property
    def measured_modes(self) -> tuple[str, ...]:
        """The modes, or that of an image."""
        return self.modes if self.image is None else (CASE,)


def _must_be_sizes(name: str, sizes: tuple[int, ...]) -> None:
    if len(sizes) != 3 or min(sizes) < 1:
        msg = f"{name} must be three sizes of at least 1 voxel; got {sizes}"
        raise ValueError(msg)


SETTINGS = MappingProxyType(
    {
        # the paper's two settings: 13 organs and background on CT, 3 regions on 4 MR channels
        "btcv": Settings("btcv", in_channels=1, out_channels=14, crop=(96, 96, 96), keep_ratio=0.1),
        "brats": Settings("brats", in_channels=4, out_channels=3, crop=(128, 128, 128), keep_ratio=0.25),
        # shows that everything works; its numbers mean nothing
        "quick": Settings(
            "quick",
            in_channels=1,
            out_channels=3,
            crop=(32, 32, 32),
            keep_ratio=0.25,
            contestants=("scd:size=tiny", "dense:size=tiny", "nnunet"),
            repeats=2,
            warmup=1,
            turn_seconds=0.05,
        ),
    }
)


def named_settings(name: str) -> Settings:
    """Settings by name.

    Raises:
        ValueError: if there are none of that name.
    """
    if name not in SETTINGS:
        msg = f"settings must be one of {', '.join(SETTINGS)}; got {name!r}"
        raise ValueError(msg)
    return SETTINGS[name]


def parse_crop(text: str, name: str = "crop") -> tuple[int, ...]:
    """`96` or `96x128x128`, as three sizes.

    Args:
        text: as on the command line.
        name: what it is, for a message.

    Raises:
        ValueError: if it is neither.
    """
    sizes = text.strip().split("x")
    if len(sizes) not in (1, 3) or not all(size.isdecimal() for size in sizes):
        msg = f"{name} must be one size such as 96, or three such as 96x128x128; got {text!r}"
        raise ValueError(msg)
    return tuple(int(size) for size in (sizes * 3 if len(sizes) == 1 else sizes))


def crop_text(crop: tuple[int, ...] | list[int]) -> str:
    """The inverse of `parse_crop`, as short as it can be said."""
    return str(crop[0]) if len(set(crop)) == 1 else "x".join(map(str, crop))


def num_windows(volume: Sequence[int], crop: Sequence[int], overlap: float) -> int:
    """Windows in which MONAI's inferer covers a volume.

    Args:
        volume: voxels per axis; what is smaller than a window is padded to it.
        crop: voxels of a window per axis.
        overlap: share of a window that the next one covers again.
    """
    # the next window begins at least one voxel on
    steps = [max(1, int(edge * (1 - overlap))) for edge in crop]
    return prod(1 + ceil(max(0, size - edge) / step) for size, edge, step in zip(volume, crop, steps))


def command_line(settings: Settings, *, grow: str | None = None, values: tuple[str, ...] = ()) -> str:
    """The command that measures this again: what differs from the named settings, and what depends on the machine."""
    named = asdict(named_settings(settings.name))
    ours = asdict(settings)
    words = ["scd", "bench"]
    if settings.contestants != named["contestants"]:
        words += settings.contestants
    words += ["--settings", settings.name]
    for field in fields(Settings):
        value = ours[field.name]
        if field.name in ("name", "contestants") or (
            value == named[field.name] and field.name not in ("device", "threads")
        ):
            continue
        if field.name == "compiled":
            words.append("--compile" if value else "--eager")
        elif field.name == "keep_memory":
            words.append("--keep-memory" if value else "--return-memory")
        elif field.name == "modes":
            words += [word for mode in value for word in ("--mode", mode)]
        else:
            text = crop_text(value) if field.name == "crop" else str(value)
            words += [f"--{field.name.replace('_', '-')}", text]
    if grow:
        words += ["--grow", grow, "--values", ",".join(values)]
    return shlex.join(words)
