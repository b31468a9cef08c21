"""bfloat16 on a CPU: nnU-Net turns autocast off there, and has no setting for it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from scd_plugin.processor import bfloat16_instructions

__all__ = ["CPU_DTYPES", "autocast_on_cpu", "logits_in_float32", "slow_bfloat16_note"]

CPU_DTYPES = ("float32", "bfloat16")


def autocast_on_cpu(dtype: str, device: torch.device) -> AbstractContextManager[Any]:
    """Context of a training step: autocast for bfloat16 on a CPU, else nothing. CUDA stays nnU-Net's affair."""
    if dtype == "bfloat16" and device.type == "cpu":
        return torch.autocast("cpu", torch.bfloat16)
    return nullcontext()


def slow_bfloat16_note() -> str | None:
    """A sentence for processors without instructions for bfloat16; None on others."""
    if bfloat16_instructions() is not None:
        return None
    return (
        "bfloat16 will be slow on this processor, which has neither AMX nor AVX512-BF16; results are as on others, and "
        "float32 is faster here"
    )


def logits_in_float32(_network: nn.Module, _inputs: object, output: Tensor | list[Tensor]) -> Tensor | list[Tensor]:
    """Forward hook that returns float32: losses sum a million voxels, of which bfloat16 would lose most."""
    return [logits.float() for logits in output] if isinstance(output, list) else output.float()
