"""Who takes part, and how a contestant is written on the command line.

A contestant is a name, or a name with arguments of its network: `scd`, `scd:size=small-fast`,
`scd:keep_ratio=0.5,feature_size=8`, `scd:prune_after=2x4x6`. It is read once; from there on it is an object.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from scd_plugin.bench import builders, parts
from scd_plugin.bench.bench_settings import BenchSettings, crop_text
from scd_plugin.networks.builder import build_network
from scd_plugin.networks.presets import get_preset

if TYPE_CHECKING:
    from torch import nn

__all__ = ["CONTESTANTS", "Contestant", "parse_contestant", "parse_contestants", "parse_value", "twins"]


@dataclass(frozen=True)
class Contestant:
    """A network that takes part: one of ours by its preset, or another library's by what builds it."""

    name: str
    about: str
    parts: Callable[[Any], parts.Parts]
    builder: Callable[..., nn.Module] = build_network
    multiple: int = 1
    """What the sizes of its crop are multiples of, where its library does not say so itself."""
    preset: str | None = None
    changes: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Arguments of its network in place of the preset's or the library's."""
    takes_keep_ratio: bool = False
    """Whether the settings say what share of the tokens it keeps."""
    label: str = ""
    """As on the command line."""

    def keep_ratio(self, settings: BenchSettings) -> Sequence[float] | float | None:
        """Share of the tokens that it keeps at each stage; None for a network of another library."""
        if self.preset is None:
            return None
        own: Sequence[float] | float = get_preset(self.preset).arguments["keep_ratio"]
        return settings.keep_ratio if self.takes_keep_ratio else self.changes.get("keep_ratio", own)

    def build(self, settings: BenchSettings) -> nn.Module:
        """Its network; a `ValueError` where that cannot take the crop."""
        crop, multiple = settings.crop, self.multiple
        if any(size % multiple for size in crop):
            near = crop_text([max(1, round(size / multiple)) * multiple for size in crop])
            msg = f"{self.name} needs a crop of multiples of {multiple} voxels; got {crop_text(crop)}, {near} is near"
            raise ValueError(msg)
        where = {"in_channels": settings.in_channels, "out_channels": settings.out_channels, "img_size": crop}
        ours = {"preset": self.preset, "keep_ratio": self.keep_ratio(settings)} if self.preset else {}
        return self.builder(**where, **{**self.changes, **ours})


def _ours(name: str, about: str, preset: str, **how: Any) -> Contestant:
    return Contestant(name, about, parts.scd, preset=preset, **how)


_ALL_TOKENS = {"keep_ratio": 1}
_EVERYONE = (
    _ours("scd", "SCDUNETR; ViT-B and token patch 8 unless its arguments say otherwise", "base", takes_keep_ratio=True),
    _ours("early", "SCDUNETR of size base-early: pruning from the first block on, narrow completion", "base-early"),
    _ours("fast", "size base-fast: the same with the light decoder", "base-fast"),
    _ours("subvoxel", "size base-subvoxel: the same with the sub-voxel decoder", "base-subvoxel"),
    _ours("dense", "its dense twin; keeps all tokens, fused attention", "base", changes=_ALL_TOKENS),
    _ours("dense-light", "the dense twin with the decoder of the fast one", "base-fast", changes=_ALL_TOKENS),
    _ours("dense-subvoxel", "the dense twin with the sub-voxel decoder", "base-subvoxel", changes=_ALL_TOKENS),
    # the paper's own protocol
    _ours(
        "scd-plain",
        "scd with attention as two matrix products, as the paper measured it",
        "base",
        builder=builders.plain,
        takes_keep_ratio=True,
    ),
    _ours(
        "dense-plain",
        "its dense twin with attention as two matrix products",
        "base",
        builder=builders.plain,
        changes=_ALL_TOKENS,
    ),
    Contestant("unetr", "MONAI's UNETR (ViT-B, token patch 16)", parts.monai, partial(builders.monai, "UNETR"), 16),
    Contestant(
        "swinunetr", "MONAI's SwinUNETR, feature size 48", parts.monai, partial(builders.monai, "SwinUNETR"), 32
    ),
    Contestant("primus-s", "nnU-Net's Primus S", parts.primus, partial(builders.primus, "PrimusS"), 8),
    Contestant("primus-m", "nnU-Net's Primus M", parts.primus, partial(builders.primus, "PrimusM"), 8),
    Contestant("primusv3-s", "nnU-Net's Primus V3 S", parts.primus, partial(builders.primus, "PrimusV3S"), 8),
    *(
        _ours(f"scd-{preset}", f"SCDPrimus: {preset} with pruning and completion", preset, takes_keep_ratio=True)
        for preset in ("primus-s", "primus-m", "primusv3-s")
    ),
    Contestant("nnunet", "nnU-Net's default 3d_fullres U-Net", parts.unet, partial(builders.unet, residual=False)),
    Contestant("resenc-l", "nnU-Net's ResEnc-L U-Net", parts.unet, partial(builders.unet, residual=True)),
)
CONTESTANTS: Mapping[str, Contestant] = MappingProxyType({one.name: one for one in _EVERYONE})
"""Everyone, by name. Another contestant is one more of these lines."""


def parse_contestant(text: str) -> Contestant:
    """Read `name` or `name:argument=value,argument=value`.

    `size=` names a preset of `scd_plugin.networks.presets`, which is taken whole, keep ratios included. The settings'
    keep ratio is for those of our networks that have neither a size nor a keep_ratio among their arguments.

    Raises:
        ValueError: if there is no contestant of that name, or an argument has no value or cannot be changed.
    """
    name, _, listed = text.partition(":")
    if name not in CONTESTANTS:
        msg = f"contestant must be one of {', '.join(CONTESTANTS)}; got {name!r}"
        raise ValueError(msg)
    known, changes = CONTESTANTS[name], {}
    for argument in filter(None, listed.split(",")):
        key, equals, value = argument.partition("=")
        if not (key.isidentifier() and equals and value):
            msg = f"arguments of a contestant are written name:argument=value,argument=value; got {text!r}"
            raise ValueError(msg)
        if key in known.changes:
            msg = f"{key} of {name} is always {known.changes[key]}; got {text!r}"
            raise ValueError(msg)
        changes[key] = parse_value(value)
    takes_keep_ratio = known.takes_keep_ratio and not {"size", "keep_ratio"} & set(changes)
    preset = changes.pop("size", known.preset) if known.preset else None
    changes = {**known.changes, **changes}
    return replace(known, label=text, preset=preset, changes=changes, takes_keep_ratio=takes_keep_ratio)


def parse_contestants(texts: Sequence[str]) -> list[Contestant]:
    """Read at least one, each named once; a `ValueError` says what is wrong."""
    if not texts or len(set(texts)) < len(texts):
        msg = f"contestants must be at least one, each named once; got {', '.join(texts) or 'none'}"
        raise ValueError(msg)
    return [parse_contestant(text) for text in texts]


def parse_value(text: str) -> Any:
    """An int, a float, true, false, none, numbers with `x` between them (`3x` for a tuple of one), or the text."""
    if text.lower() in ("true", "false", "none"):
        return {"true": True, "false": False, "none": None}[text.lower()]
    numbers = text.removesuffix("x").split("x")
    if not all(re.fullmatch(r"-?\d+(\.\d+)?(e-?\d+)?", number) for number in numbers):
        return text
    values = tuple(int(number) if re.fullmatch(r"-?\d+", number) else float(number) for number in numbers)
    return values[0] if len(values) == 1 and not text.endswith("x") else values


def twins(contestants: Sequence[Contestant]) -> list[Contestant]:
    """The dense twins among contestants; the others are compared with each of them.

    A stock Primus is one where the same Primus with pruning takes part.
    """
    names = {contestant.name for contestant in contestants}
    return [one for one in contestants if one.name.startswith("dense") or f"scd-{one.name}" in names]
