"""What all contestants of a run share: named settings, their checks, and the command line that says them again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

__all__ = ["NAMED", "BenchSettings", "command_line", "crop_text", "option", "parse_crop"]

NAMED: dict[str, dict[str, Any]] = {
    # the paper's two settings: 13 organs and background on CT, 3 regions on 4 MR channels
    "btcv": {"in_channels": 1, "out_channels": 14, "crop": (96,) * 3, "keep_ratio": 0.1},
    "brats": {"in_channels": 4, "out_channels": 3, "crop": (128,) * 3, "keep_ratio": 0.25},
    # shows that everything works; its numbers mean nothing
    "quick": {"in_channels": 1, "out_channels": 3, "crop": (32,) * 3, "keep_ratio": 0.25}
    | {"repeats": 2, "warmup": 1, "turn_seconds": 0.05},
}
ALLOWED = {"dtype": ("float32", "bfloat16", "float16"), "device": ("cpu", "cuda"), "modes": ("forward", "train")}


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


def option(about: str, *flags: str, default: Any = None, **how: Any) -> Any:
    """A field that is an option of the command line, with a help and its flags if they are not two dashes and its name.

    How it is read: `typed` is its type on the command line if that is another, `read` goes from that type to its own.
    """
    return field(default=default, metadata={"about": about, "flags": flags, **how})


@dataclass(frozen=True, kw_only=True)
class BenchSettings:
    """Every field but the name is an option of `scd bench`; the defaults of those without one are in `NAMED`.

    Raises:
        ValueError: for a value that cannot be, with its name and what is allowed.
    """

    name: str
    crop: tuple[int, ...] = option("Voxels: 96, or 96x128x128.", typed=str, read=parse_crop)
    batch: int = option("Windows at a time; 1 without it.", default=1)
    in_channels: int = option("Image channels.")
    out_channels: int = option("Classes.")
    keep_ratio: float = option(
        "Share of tokens kept at each stage by scd and scd-primus-* that name neither a keep_ratio nor a size, since a "
        "size is a preset with ratios of its own."
    )
    dtype: str = option("float32, or bfloat16 or float16 for autocast; float32 without it.", default="float32")
    device: str = option("cpu, cuda, or auto for cuda where there is one; auto without it.", default="cpu")
    compiled: bool = option("torch.compile; eager without it.", "--compile/--eager", default=False)
    threads: int = option("CPU threads; PyTorch's choice without it.", default=1)
    keep_memory: bool = option(
        "On a CPU: freed memory stays in the process, or goes back to the system; kept without it.",
        "--keep-memory/--return-memory",
        default=True,
    )
    modes: tuple[str, ...] = option(
        "forward or train; both without it.", "--mode", default=ALLOWED["modes"], typed=list[str], read=tuple
    )
    repeats: int = option("Turns of each network; 5 without it.", default=5)
    warmup: int = option("Untimed steps of a network just built, in training at least 2; 2 without it.", default=2)
    turn_seconds: float = option("A turn is as many whole steps as fill this; 1 without it.", default=1.0)

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


def command_line(words: Sequence[str], settings: BenchSettings) -> str:
    """The command that measures this again: what differs from the named settings, and what depends on the machine.

    Args:
        words: the command, contestants and all, without options.
        settings: what the options are of.
    """
    typed = [*words, "--settings", settings.name]
    for each in fields(settings):
        value, default = getattr(settings, each.name), NAMED[settings.name].get(each.name, each.default)
        # two depend on the machine, and are always said
        if "about" in each.metadata and (value != default or each.name in ("device", "threads")):
            flag = (each.metadata["flags"] or [f"--{each.name.replace('_', '-')}"])[0]
            if isinstance(value, bool):
                typed.append(flag.split("/")[0 if value else 1])
            else:
                texts = value if each.name == "modes" else [crop_text(value) if each.name == "crop" else str(value)]
                typed += [word for text in texts for word in (flag, text)]
    return shlex.join(typed)
