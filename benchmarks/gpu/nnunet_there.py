"""Whether a machine for measuring has what nnU-Net's commands and trainers need."""

from __future__ import annotations

from importlib.util import find_spec

__all__ = ["NO_NNUNET", "nnunet_runs"]

NO_NNUNET = "nnunetv2 is not installed with what it needs"


def nnunet_runs() -> bool:
    """Whether nnU-Net can run; its own package lies among the wheels for networks (`wheels.sh`), its needs do not."""
    return all(find_spec(name) is not None for name in ("nnunetv2", "acvl_utils"))
