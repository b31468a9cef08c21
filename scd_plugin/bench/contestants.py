"""Who takes part: names, how each network is built, and how a contestant is written on the command line.

A contestant is a name, or a name with arguments of its network: `scd`, `scd:keep_ratio=0.5,feature_size=8`,
`scd:prune_after=2x4x6`. Nothing is imported until a network is built.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from scd_plugin.bench import builders, parts
from scd_plugin.bench.settings import Settings
from scd_plugin.networks.presets import FAST_KEEP_RATIO

if TYPE_CHECKING:
    from torch import nn

__all__ = ["CONTESTANTS", "Contestant", "build", "parse_contestant", "parse_value", "prunes", "twins"]


@dataclass(frozen=True)
class Contestant:
    """One line of the registry."""

    about: str
    build: Callable[..., nn.Module]
    """build(in_channels, out_channels, img_size, **arguments)"""
    parts: Callable[[nn.Module], parts.Parts]
    prunes: bool = False
    """gets the settings' keep ratio"""


SCD_PRIMUS: dict[str, dict[str, Any]] = {
    "primus-s": {"size": "S"},
    "primus-m": {"size": "M"},
    "primusv3-s": {"size": "S", "version": 3},
}
"""stock networks that have a pruned one, `scd-` and the same name"""

CONTESTANTS = MappingProxyType(
    {
        "scd": Contestant(
            "SCDUNETR; ViT-B and token patch 8 unless its arguments say otherwise",
            partial(builders.ours, "SCDUNETR"),
            parts.scd,
            True,
        ),
        "dense": Contestant(
            "its dense twin; keeps all tokens, fused attention", partial(builders.dense, "SCDUNETR"), parts.scd
        ),
        "early": Contestant(
            "SCDUNETR of size base-early: pruning from the first block on, narrow completion",
            partial(builders.ours, "SCDUNETR", size="base-early", keep_ratio=FAST_KEEP_RATIO),
            parts.scd,
        ),
        "fast": Contestant(
            "size base-fast: the same with the light decoder",
            partial(builders.ours, "SCDUNETR", size="base-fast", keep_ratio=FAST_KEEP_RATIO),
            parts.scd,
        ),
        "dense-light": Contestant(
            "the dense twin with the decoder of the fast one",
            partial(builders.dense, "SCDUNETR", decoder="light"),
            parts.scd,
        ),
        "unetr": Contestant("MONAI's UNETR (ViT-B, token patch 16)", builders.unetr, parts.unetr),
        "swinunetr": Contestant("MONAI's SwinUNETR, feature size 48", builders.swinunetr, parts.swinunetr),
        "primus-s": Contestant("nnU-Net's Primus S", partial(builders.primus, "nnUNet_Primus_S_Trainer"), parts.primus),
        "primus-m": Contestant("nnU-Net's Primus M", partial(builders.primus, "nnUNet_Primus_M_Trainer"), parts.primus),
        "primusv3-s": Contestant(
            "nnU-Net's Primus V3 S", partial(builders.primus, "nnUNet_PrimusV3S_Trainer"), parts.primus
        ),
        **{
            f"scd-{name}": Contestant(
                f"SCDPrimus: {name} with pruning and completion",
                partial(builders.scd_primus, **arguments),
                parts.scd_primus,
                True,
            )
            for name, arguments in SCD_PRIMUS.items()
        },
        "nnunet": Contestant("nnU-Net's default 3d_fullres U-Net", partial(builders.unet, residual=False), parts.unet),
        "resenc-l": Contestant("nnU-Net's ResEnc-L U-Net", partial(builders.unet, residual=True), parts.unet),
    }
)


def parse_contestant(text: str) -> tuple[str, dict[str, Any]]:
    """Name and arguments of `name` or `name:argument=value,argument=value`.

    Raises:
        ValueError: if there is no contestant of that name, or an argument has no value.
    """
    name, _, listed = text.partition(":")
    if name not in CONTESTANTS:
        msg = f"contestant must be one of {', '.join(CONTESTANTS)}; got {name!r}"
        raise ValueError(msg)
    arguments = {}
    for argument in filter(None, listed.split(",")):
        key, equals, value = argument.partition("=")
        if not (key.isidentifier() and equals and value):
            msg = f"arguments of a contestant are written name:argument=value,argument=value; got {text!r}"
            raise ValueError(msg)
        arguments[key] = parse_value(value)
    return name, arguments


def parse_value(text: str) -> Any:
    """An int, a float, true, false, none, numbers with `x` between them (`3x` for a tuple of one), or the text."""
    if text.lower() in ("true", "false", "none"):
        return {"true": True, "false": False, "none": None}[text.lower()]
    numbers = text.removesuffix("x").split("x")
    if not all(re.fullmatch(r"-?\d+(\.\d+)?(e-?\d+)?", number) for number in numbers):
        return text
    values = tuple(int(number) if re.fullmatch(r"-?\d+", number) else float(number) for number in numbers)
    return values[0] if len(values) == 1 and not text.endswith("x") else values


def prunes(text: str) -> bool:
    """Whether a contestant gets the settings' keep ratio: it prunes, and does not say its own."""
    name, arguments = parse_contestant(text)
    return CONTESTANTS[name].prunes and "keep_ratio" not in arguments


def twins(contestants: tuple[str, ...]) -> list[str]:
    """The dense twins among contestants; the others are compared with each of them.

    A stock Primus is one where a Primus with pruning takes part.
    """
    names = [parse_contestant(text)[0] for text in contestants]
    return [text for text, name in zip(contestants, names) if name.startswith("dense") or f"scd-{name}" in names]


def build(text: str, settings: Settings) -> nn.Module:
    """Build a contestant's network.

    Raises:
        ValueError: if it cannot take the crop, or does not know an argument.
    """
    name, arguments = parse_contestant(text)
    if prunes(text):
        arguments["keep_ratio"] = settings.keep_ratio
    try:
        return CONTESTANTS[name].build(settings.in_channels, settings.out_channels, settings.crop, **arguments)
    except TypeError as error:
        msg = f"{text} does not fit its network: {error}"
        raise ValueError(msg) from None
