"""What all contestants of a run share: named settings, their checks, and the command line that says them again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from typer import Option

__all__ = ["NAMED", "BenchSettings", "command_line", "crop_text", "options_of", "parse_crop"]

NAMED: dict[str, dict[str, Any]] = {
    # the paper's two settings: 13 organs and background on CT, 3 regions on 4 MR channels
    "btcv": {"in_channels": 1, "out_channels": 14, "crop": (96,) * 3, "keep_ratio": 0.1},
    "brats": {"in_channels": 4, "out_channels": 3, "crop": (128,) * 3, "keep_ratio": 0.25},
    # shows that everything works; its numbers mean nothing
    "quick": {"in_channels": 1, "out_channels": 3, "crop": (32,) * 3, "keep_ratio": 0.25}
    | {"repeats": 2, "warmup": 1, "turn_seconds": 0.05},
}
ALLOWED = {"dtype": ("float32", "bfloat16", "float16"), "device": ("cpu", "cuda"), "modes": ("forward", "train")}

KEEP_RATIO = (
    "Share of tokens kept at each stage by scd, scd-plain and scd-primus-* that name neither a keep_ratio nor a size, "
    "since a size is a preset with ratios of its own."
)
KEEP_MEMORY = "On a CPU: freed memory stays in the process (the default), or goes back to the system."


def parse_crop(text: str) -> tuple[int, ...]:
    """Three sizes of `96` or `96x128x128`.

    Raises:
        ValueError: if it is neither.
    """
    sizes = text.strip().split("x")
    if len(sizes) not in (1, 3) or not all(size.isdecimal() and int(size) for size in sizes):
        msg = f"sizes in voxels must be one such as 96, or three such as 96x128x128; got {text!r}"
        raise ValueError(msg)
    return tuple(int(size) for size in (sizes * 3 if len(sizes) == 1 else sizes))


def crop_text(crop: Sequence[int]) -> str:
    """The inverse of `parse_crop`, as short as it can be said."""
    return str(crop[0]) if len(set(crop)) == 1 else "x".join(map(str, crop))


@dataclass(frozen=True, kw_only=True)
class BenchSettings:
    """The command line makes an option of each field with an `Option`; what has no default is in `NAMED`.

    Raises:
        ValueError: for a value that cannot be, with its name and what is allowed.
    """

    name: str
    crop: Annotated[tuple[int, ...], Option(help="Voxels: 96, or 96x128x128.")]
    batch: Annotated[int, Option(help="Windows at a time (default: 1).")] = 1
    in_channels: Annotated[int, Option(help="Image channels.")]
    out_channels: Annotated[int, Option(help="Classes.")]
    keep_ratio: Annotated[float, Option(help=KEEP_RATIO)]
    dtype: Annotated[str, Option(help="float32, or bfloat16 or float16 for autocast (default: float32).")] = "float32"
    device: Annotated[str, Option(help="cpu, cuda, or auto for cuda where there is one (default: auto).")] = "cpu"
    compiled: Annotated[
        bool, Option("--compile/--eager", help="Compile by torch.compile, or not (default: eager).")
    ] = False
    threads: Annotated[int, Option(help="CPU threads (default: PyTorch's choice).")] = 1
    keep_memory: Annotated[bool, Option("--keep-memory/--return-memory", help=KEEP_MEMORY)] = True
    modes: Annotated[tuple[str, ...], Option("--mode", help="forward or train (default: both).")] = ALLOWED["modes"]
    repeats: Annotated[int, Option(help="Turns of each network (default: 5).")] = 5
    warmup: Annotated[int, Option(help="Untimed steps of a network just built (default: 2, the least to train).")] = 2
    turn_seconds: Annotated[float, Option(help="A turn is as many whole steps as fill this (default: 1).")] = 1.0

    def __post_init__(self) -> None:
        # what another kind of settings adds is its own to check
        for each in fields(BenchSettings):
            value = getattr(self, each.name)
            if type(value) in (int, float) and value <= 0:
                msg = f"{each.name.replace('_', '-')} must be more than 0; got {value}"
                raise ValueError(msg)
        if self.keep_ratio > 1:
            msg = f"keep-ratio must be in (0, 1], the share of tokens kept at each stage; got {self.keep_ratio}"
            raise ValueError(msg)
        for name, allowed in ALLOWED.items():
            value = getattr(self, name)
            if not value or not set(value if name == "modes" else [value]) <= set(allowed):
                msg = f"{name} must be of {', '.join(allowed)}; got {value or 'none'}"
                raise ValueError(msg)

    def work(self) -> dict[str, Any]:
        """How much a contestant works on, which its result records."""
        return {"crop": list(self.crop), "batch": self.batch}


def options_of(settings: type[BenchSettings]) -> dict[str, tuple[Any, Any]]:
    """Type and `Option` of each field that is one."""
    hints = get_type_hints(settings, include_extras=True)
    return {name: get_args(hint) for name, hint in hints.items() if get_origin(hint) is Annotated}


def command_line(words: Sequence[str], settings: BenchSettings) -> str:
    """The command that measures this again: what differs from the named settings, and what depends on the machine.

    Args:
        words: the command, contestants and all, without options.
        settings: what the options are of.
    """
    typed = [*words, "--settings", settings.name]
    given = {**{each.name: each.default for each in fields(settings)}, **NAMED[settings.name]}
    for name, (_, option) in options_of(type(settings)).items():
        value = getattr(settings, name)
        # two depend on the machine, and are always said
        if value != given[name] or name in ("device", "threads"):
            flag = option.default if isinstance(option.default, str) else f"--{name.replace('_', '-')}"
            if isinstance(value, bool):
                typed.append(flag.split("/")[0 if value else 1])
            else:
                texts = value if name == "modes" else [crop_text(value) if name == "crop" else str(value)]
                typed += [word for text in texts for word in (flag, text)]
    return shlex.join(typed)
