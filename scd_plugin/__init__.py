"""Token-pruning vision transformers for nnU-Net and MONAI."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scd_plugin.networks import SCDUNETR as SCDUNETR
    from scd_plugin.networks import ComposedNetwork as ComposedNetwork
    from scd_plugin.networks import SCDNetwork as SCDNetwork
    from scd_plugin.networks import SCDPrimus as SCDPrimus
    from scd_plugin.networks import build_network as build_network
    from scd_plugin.networks import load_primus_state_dict as load_primus_state_dict
    from scd_plugin.networks import load_tokensparse_state_dict as load_tokensparse_state_dict
    from scd_plugin.networks import prune_primus as prune_primus

__version__ = "0.1.0"

__all__ = [
    "ComposedNetwork",
    "SCDNetwork",
    "SCDPrimus",
    "SCDUNETR",
    "__version__",
    "build_network",
    "load_primus_state_dict",
    "load_tokensparse_state_dict",
    "prune_primus",
]


def __getattr__(name: str) -> object:
    """Networks load on first use: they need MONAI, which takes seconds to load and brings matplotlib along."""
    if name in __all__:
        return getattr(import_module("scd_plugin.networks"), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    """Names that are not loaded yet belong to it."""
    return sorted({*globals(), *__all__})
