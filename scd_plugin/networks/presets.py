"""Network sizes by name: what differs between small, base and large, as arguments of the networks."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

__all__ = ["FAST_KEEP_RATIO", "PRIMUS_SIZES", "SIZES", "primus_size_arguments", "size_arguments"]

_SIZES: dict[str, dict[str, Any]] = {
    # for demonstrations and tests on a CPU
    "tiny": {
        "hidden_size": 96,
        "mlp_dim": 384,
        "num_heads": 3,
        "num_layers": 8,
        "prune_after": (2, 4, 6),
        "feature_size": 8,
    },
    "small": {
        "hidden_size": 384,
        "mlp_dim": 1536,
        "num_heads": 6,
        "num_layers": 12,
        "prune_after": (3, 6, 9),
        "feature_size": 16,
    },
    # ViT-B: the published setting
    "base": {
        "hidden_size": 768,
        "mlp_dim": 3072,
        "num_heads": 12,
        "num_layers": 12,
        "prune_after": (3, 6, 9),
        "feature_size": 16,
    },
    "large": {
        "hidden_size": 1024,
        "mlp_dim": 4096,
        "num_heads": 16,
        "num_layers": 24,
        "prune_after": (6, 12, 18),
        "feature_size": 32,
    },
}

# Shares that the early and the fast sizes keep at their four stages: gentler steps than 0.25 three times.
FAST_KEEP_RATIO = (0.4, 0.25, 0.25, 0.25)


def _early(size: dict[str, Any]) -> dict[str, Any]:
    """The same transformer and decoder; tokens leave earlier, and completion is the cheaper one."""
    first = max(1, size["prune_after"][0] // 3)
    return {
        **size,
        "prune_after": (first, *size["prune_after"]),
        "completion": "assembly_to_kept",
        "completion_hidden_size": size["hidden_size"] // 2,
    }


# what is measured of the early and the fast ones stands in docs/performance-notes.md
SIZES = MappingProxyType(
    {
        **_SIZES,
        **{f"{name}-early": _early(size) for name, size in _SIZES.items()},
        **{f"{name}-fast": {**_early(size), "decoder": "light"} for name, size in _SIZES.items()},
    }
)

# Primus's own sizes, alike in its three versions: arXiv 2503.01835, and `_PRIMUS_CONFIGS` of
# dynamic-network-architectures 0.4.4
PRIMUS_SIZES = MappingProxyType(
    {
        "S": {"hidden_size": 396, "num_layers": 12, "num_heads": 6},
        "B": {"hidden_size": 792, "num_layers": 12, "num_heads": 12},
        "M": {"hidden_size": 864, "num_layers": 16, "num_heads": 12},
        "L": {"hidden_size": 1056, "num_layers": 24, "num_heads": 16},
    }
)


def size_arguments(size: str) -> dict[str, Any]:
    """Arguments of `SCDUNETR` for a size.

    Args:
        size: a key of `SIZES`.

    Raises:
        ValueError: if there is no such size.
    """
    if size not in SIZES:
        msg = f"size must be one of {', '.join(SIZES)}; got {size!r}"
        raise ValueError(msg)
    return dict(SIZES[size])


def primus_size_arguments(size: str) -> dict[str, int]:
    """Width, depth and heads of a size of Primus.

    Args:
        size: a key of `PRIMUS_SIZES`.

    Raises:
        ValueError: if there is no such size.
    """
    if size not in PRIMUS_SIZES:
        msg = f"size must be one of {', '.join(PRIMUS_SIZES)}, those of Primus; got {size!r}"
        raise ValueError(msg)
    return dict(PRIMUS_SIZES[size])
