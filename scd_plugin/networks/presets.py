"""Presets: every setting that makes a network, under one name. `build_network` builds from them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

__all__ = ["PRESETS", "Preset", "get_preset", "primus_preset"]


class Preset(NamedTuple):
    """All arguments of a network that no data set settles, as it does channels, classes, crop and token size."""

    network: str
    """Name of its class in `scd_plugin`."""
    arguments: dict[str, Any]
    """Arguments of that class, by name."""


def _size(hidden_size: int, *, num_heads: int, num_layers: int, feature_size: int) -> dict[str, Any]:
    """Widths and depth of transformer and decoder; tokens leave after each quarter of the depth."""
    return {
        "hidden_size": hidden_size,
        "mlp_dim": 4 * hidden_size,
        "num_heads": num_heads,
        "num_layers": num_layers,
        "prune_after": tuple(num_layers * quarter // 4 for quarter in (1, 2, 3)),
        "feature_size": feature_size,
    }


_SIZES = {
    # for demonstrations and tests on a CPU
    "tiny": _size(96, num_heads=3, num_layers=8, feature_size=8),
    "small": _size(384, num_heads=6, num_layers=12, feature_size=16),
    # ViT-B: the published setting
    "base": _size(768, num_heads=12, num_layers=12, feature_size=16),
    "large": _size(1024, num_heads=16, num_layers=24, feature_size=32),
}


def _published(size: dict[str, Any]) -> dict[str, Any]:
    """The method as published, but for norms with a learned scale and shift."""
    return {
        **size,
        "keep_ratio": 0.25,
        "sampling": "soft_topk",
        "completion": "assembly",
        "completion_hidden_size": None,
        "decoder": "unetr",
        # as in nnU-Net's own networks: without them small classes are learned far later
        "norm_name": ("instance", {"affine": True}),
        "drop_path_rate": 0.1,
    }


def _early(size: dict[str, Any]) -> dict[str, Any]:
    """The published transformer and decoder; tokens leave earlier, in gentler steps, and completion is cheaper."""
    first = max(1, size["prune_after"][0] // 3)
    return {
        **_published(size),
        "prune_after": (first, *size["prune_after"]),
        "keep_ratio": (0.4, 0.25, 0.25, 0.25),
        "completion": "assembly_to_kept",
        "completion_hidden_size": size["hidden_size"] // 2,
    }


def _primus(version: int, size: str) -> dict[str, Any]:
    """Primus with one pruning stage; its widths stand in `PRIMUS_SIZES` of `scd_plugin.networks.scd_primus`."""
    return {
        "version": version,
        "size": size,
        "prune_after": None,
        # the smallest that was as good as Primus, see docs/studies/choice-of-tokens.md
        "keep_ratio": 0.5,
        "sampling": "topk",
        "prior": "entropy",
        "completion": "assembly",
        "completion_hidden_size": None,
        # as nnU-Net's Primus trainers
        "drop_path_rate": 0.2,
    }


def primus_preset(version: int, size: str) -> str:
    """Name of a preset of SCD-Primus, from version (1 to 3) and size (S, B, M or L): `"primus-m"`, `"primusv3-s"`."""
    return f"primus{'' if version == 1 else f'v{version}'}-{size.lower()}"


# what is measured of them stands in docs/results.md
PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        **{name: Preset("SCDUNETR", _published(size)) for name, size in _SIZES.items()},
        **{f"{name}-early": Preset("SCDUNETR", _early(size)) for name, size in _SIZES.items()},
        **{
            f"{name}-{kind}": Preset("SCDUNETR", {**_early(size), "decoder": decoder})
            for kind, decoder in {"fast": "light", "subvoxel": "subvoxel"}.items()
            for name, size in _SIZES.items()
        },
        **{
            primus_preset(version, size): Preset("SCDPrimus", _primus(version, size))
            for version in (1, 2, 3)
            for size in "SBML"
        },
    }
)


def get_preset(name: str) -> Preset:
    """A preset by its name; its arguments are a copy.

    Raises:
        ValueError: if there is none of that name.
    """
    if name not in PRESETS:
        msg = f"the preset (size) must be one of {', '.join(PRESETS)}; got {name!r}"
        raise ValueError(msg)
    return Preset(PRESETS[name].network, dict(PRESETS[name].arguments))
