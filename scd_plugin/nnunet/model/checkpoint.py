"""Reads nnU-Net's checkpoints without unpickling arbitrary code, and says clearly what is wrong with one."""

from __future__ import annotations

import pickle
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["PRETRAINED_NOTE", "read_checkpoint", "trusted_checkpoint_types"]

PRETRAINED_NOTE = "pretrained_note"
"""Attribute of a network that holds a line for the training log: what was adapted in pretrained weights."""

# entries that are dicts, and the keys that each must have
_PARTS = {"network_weights": (), "optimizer_state": ("state", "param_groups"), "init_args": ("configuration",)}


def _rebuild_number(module: str) -> Any:
    """NumPy's function that makes a scalar of its bytes, under the name that checkpoints call it by."""
    rebuild: Any = np.float64(0).__reduce__()[0]

    def scalar(*parts: Any) -> Any:
        return rebuild(*parts)

    # a checkpoint names it, and torch.load looks it up, by these two
    scalar.__module__, scalar.__qualname__ = module, "scalar"
    return scalar


# NumPy 2 renamed the module; a model may be trained with one version and read with the other, as beside MONAI Label
_REBUILD = tuple(_rebuild_number(module) for module in ("numpy.core.multiarray", "numpy._core.multiarray"))


def trusted_checkpoint_types() -> AbstractContextManager[None]:
    """Context in which `torch.load(weights_only=True)` accepts what nnU-Net 2.8 writes besides tensors.

    These are NumPy scalars of its log (losses, Dice, learning rates), by name, and nothing else.
    """
    numbers = (np.float16, np.float32, np.float64, np.int32, np.int64, np.bool_)
    return torch.serialization.safe_globals([*_REBUILD, np.dtype, *(type(np.dtype(number)) for number in numbers)])


def read_checkpoint(path: str, *, needs: Sequence[str]) -> dict[str, Any]:
    """Read a checkpoint of nnU-Net, which must have the entries that it `needs`.

    Raises:
        ValueError: if the file is truncated, holds more than tensors and numbers, or is no nnU-Net checkpoint.
    """
    try:
        with trusted_checkpoint_types():
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        msg = (
            f"checkpoint {path} is truncated, or holds more than tensors and numbers, which is not unpickled: "
            f"{_first_line(error)}"
        )
        raise ValueError(msg) from None
    except FileNotFoundError:
        raise
    except Exception as error:  # noqa: BLE001  (read as a pickle, any text or bytes end in any error)
        msg = f"checkpoint {path} can't be read, it is truncated, damaged or no checkpoint: {_first_line(error)}"
        raise ValueError(msg) from None
    if missing := _missing(checkpoint, needs):
        msg = f"{path} is not an nnU-Net checkpoint: it has no {', '.join(missing)}"
        raise ValueError(msg)
    return checkpoint


def _missing(checkpoint: Any, needs: Sequence[str]) -> list[str]:
    """Say what a checkpoint lacks."""
    missing = []
    for name in needs:
        parts = _PARTS.get(name)
        if not isinstance(checkpoint, dict) or name not in checkpoint:
            missing.append(name)
        elif parts is not None and not isinstance(checkpoint[name], dict):
            missing.append(f"{name} that is a dict")
        elif name == "network_weights" and not all(isinstance(value, Tensor) for value in checkpoint[name].values()):
            missing.append(f"{name} of nothing but tensors")
        else:
            missing += [f"{part} in {name}" for part in parts or () if part not in checkpoint[name]]
    return missing


def _first_line(error: Exception) -> str:
    """The reason in an error of `torch.load`, whose other lines tell how to run what is in the file."""
    text = str(error)
    if reason := re.search(r"unsupported (operand \d+|(global: )?GLOBAL [\w.]+)", text, re.IGNORECASE):
        return reason.group()
    first = (text.splitlines() or [type(error).__name__])[0]
    return "it is no pickle of tensors" if first.startswith("Weights only load failed") else first
