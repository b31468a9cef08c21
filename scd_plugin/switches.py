"""Variables of the environment that turn something on or off."""

from __future__ import annotations

import os

__all__ = ["CUDA_GRAPHS", "cuda_graphs_wanted", "switched_on"]

CUDA_GRAPHS = "SCD_CUDA_GRAPHS"
"""0 for no graphs."""


def switched_on(name: str, *, on: str, off: str) -> bool:
    """Whether a variable leaves something on, as it is by default; `on` and `off` say what 1 and 0 do.

    Raises:
        ValueError: if the variable is neither 0 nor 1.
    """
    value = os.environ.get(name, "1")
    if value not in ("0", "1"):
        msg = f"{name} must be 1, to {on}, or 0, to {off}; got {value!r}"
        raise ValueError(msg)
    return value == "1"


def cuda_graphs_wanted() -> bool:
    """Whether the environment leaves graphs on, see `scd_plugin.networks.replay`.

    Raises:
        ValueError: if the variable is neither 0 nor 1.
    """
    return switched_on(CUDA_GRAPHS, on="replay passes on a GPU as CUDA graphs", off="compute each of them")
