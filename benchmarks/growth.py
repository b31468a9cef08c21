"""How the cost of networks grows with the crop, the keep ratio, the batch, or a volume that is segmented in windows.

    python benchmarks/growth.py crop 64 96 128 scd fast dense
    python benchmarks/growth.py keep 0.1 0.25 0.5 scd
    python benchmarks/growth.py volume 96 144 192 scd dense nnunet --output docs/benchmarks/growth-volume-cpu.json

Every network is measured at every value, and cost = factor * work ** exponent is fitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
import typer
from growth_report import markdown
from sliding_windows import Windows, WindowSettings, num_windows
from torch import nn

from scd_plugin.bench.bench_settings import command_line, parse_crop
from scd_plugin.bench.command import Output, carry_out, with_settings
from scd_plugin.bench.contestants import CONTESTANTS, Contestant, parse_contestants
from scd_plugin.bench.timed_steps import MODES, Mode, Step
from scd_plugin.bench.worker import Entry

__all__ = ["VALUES", "VOLUME", "GrowthSettings", "grown_entries", "volume_step"]

# what the work can grow in -> values tried unless others are asked for
VALUES = {
    "crop": ("64", "96", "128", "160"),
    "keep": ("0.1", "0.25", "0.5", "0.75"),
    "batch": ("1", "2", "4", "8"),
    "volume": ("96", "144", "192", "240"),
}


@dataclass(frozen=True, kw_only=True)
class GrowthSettings(WindowSettings):
    """Settings at which something grows."""

    volume: tuple[int, ...] | None = None
    """Voxels per axis of noise to segment in windows of the crop, instead of one batch of windows."""

    def work(self) -> dict[str, Any]:
        """How much a contestant works on, which its result records."""
        if self.volume is None:
            return super().work()
        windows = num_windows(self.volume, self.crop, self.overlap)
        return {**super().work(), "volume": list(self.volume), "windows": windows}


def grown_entries(
    contestants: Sequence[Contestant], settings: GrowthSettings, variable: str, values: Sequence[str]
) -> list[Entry]:
    """Every contestant at every value.

    Args:
        contestants: who takes part.
        settings: everything else.
        variable: a key of `VALUES`.
        values: of it, as on the command line; at least two, all different.

    Raises:
        ValueError: if a value or the variable cannot be, or a contestant does not depend on it.
    """
    if variable not in VALUES:
        msg = f"what grows must be one of {', '.join(VALUES)}; got {variable!r}"
        raise ValueError(msg)
    constant = [one.label for one in contestants if variable == "keep" and not one.takes_keep_ratio]
    if constant:
        able = [name for name, contestant in CONTESTANTS.items() if contestant.takes_keep_ratio]
        msg = (
            f"{', '.join(constant)} cannot grow in its keep ratio; name contestants that prune ({', '.join(able)}), "
            f"without size or keep_ratio"
        )
        raise ValueError(msg)
    changed = [_changed(settings, variable, value) for value in values]
    # 64 and 64x64x64 are the same
    if len(set(changed)) != len(changed) or len(changed) < 2:
        msg = f"values must be at least two, all different, for a fit; got {', '.join(values) or 'none'}"
        raise ValueError(msg)
    return [Entry(contestant, each) for each in changed for contestant in contestants]


def _changed(settings: GrowthSettings, variable: str, value: str) -> GrowthSettings:
    if variable == "crop":
        return replace(settings, crop=parse_crop(value))
    if variable == "volume":
        return replace(settings, volume=parse_crop(value))
    try:
        return replace(settings, keep_ratio=float(value)) if variable == "keep" else replace(settings, batch=int(value))
    except ValueError as error:
        msg = f"values of {variable} must be numbers that can be; got {value!r}: {error}"
        raise ValueError(msg) from None


def volume_step(network: nn.Module, settings: GrowthSettings) -> Step:
    """Segments noise of the size of the settings' volume: what the network's stage of a whole image takes."""
    segment = Windows(network, settings)
    generator = torch.Generator().manual_seed(0)
    volume = torch.randn(settings.in_channels, *(settings.volume or settings.crop), generator=generator)

    def step() -> None:
        segment(volume)

    return step


VOLUME = Mode("forward", volume_step)
"""Inference alone."""


@with_settings(GrowthSettings)
def main(
    variable: Annotated[str, typer.Argument(help=f"What grows: {', '.join(VALUES)}.")],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[VALUES]... [CONTESTANTS]...",
            help="Values, which begin with a digit: 64, 96x128x192 or 0.5. Then networks, as for scd bench.",
        ),
    ] = None,
    *,
    settings: GrowthSettings,
    output: Output = None,
) -> None:
    """Measure how cost grows with the work. A volume is segmented in windows of the crop, inference alone."""
    values = [word for word in words or () if word[0].isdigit()] or list(VALUES.get(variable, ()))
    labels = [word for word in words or () if not word[0].isdigit()]
    labels = labels or ["scd", *(["dense", "nnunet"] if variable != "keep" else [])]
    if variable == "volume" and "forward" not in settings.modes:
        msg = f"mode must be forward where a volume grows, which is not trained on; got {', '.join(settings.modes)}"
        raise ValueError(msg)
    if variable == "volume":
        settings = replace(settings, modes=("forward",))
    carry_out(
        grown_entries(parse_contestants(labels), settings, variable, values),
        [VOLUME] if variable == "volume" else [MODES[mode] for mode in settings.modes],
        markdown,
        output,
        command=command_line(["python", "benchmarks/growth.py", variable, *values, *labels], settings),
        grow={"variable": variable, "values": values},
    )


if __name__ == "__main__":
    typer.run(main)
