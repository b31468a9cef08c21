"""A bundle's file of weights: whether it is there, whole, and of the network that the configs describe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from monai.handlers import CheckpointLoader
from torch import nn

from scd_plugin.networks.wrappers import unwrapped

__all__ = ["is_readable", "load_weights", "need_weights", "reason"]


def is_readable(file: Path) -> bool:
    """Whether a file that `torch.save` wrote is there to its end, and holds nothing but tensors and numbers."""
    try:
        # mmap: its structure, without the values
        torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # noqa: BLE001  (read as a pickle, any text or bytes end in any error)
        return False
    return True


def load_weights(network: nn.Module, file: Path) -> None:
    """Load a state dict.

    Raises:
        ValueError: a sentence with the file, if it is not there, can't be read, or is of another network.
    """
    if not file.is_file():
        msg = f"there are no weights in {file}: train the bundle first, or copy a state dict there"
        raise ValueError(msg)
    if not is_readable(file):
        msg = (
            f"the weights in {file} can't be read: the file, of {file.stat().st_size} bytes, was cut off or is no "
            "state dict; copy or download it again, or train the bundle anew"
        )
        raise ValueError(msg)
    try:
        network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    except Exception as error:
        msg = f"{file} must be a state dict that fits network_def of configs/inference.json: {reason(error)}"
        raise ValueError(msg) from error


def need_weights(handlers: Sequence[Any]) -> None:
    """Refuse to run an engine whose weights can't be loaded, before it looks at any image.

    Args:
        handlers: of the engine.

    Raises:
        ValueError: as `load_weights`, for each `CheckpointLoader` among them.
    """
    for handler in handlers:
        if isinstance(handler, CheckpointLoader):
            load_weights(unwrapped(handler.load_dict["model"]), Path(handler.load_path))


def reason(error: Exception) -> str:
    """Put what an error says into one line that is not too long."""
    return " ".join(str(error).split())[:300]
