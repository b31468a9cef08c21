"""Logits in float32, of a network that computes in bfloat16."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["logits_in_float32"]


def logits_in_float32(_network: nn.Module, _inputs: object, output: Tensor | list[Tensor]) -> Tensor | list[Tensor]:
    """Forward hook that returns float32: losses sum a million voxels, of which bfloat16 would lose most."""
    return [logits.float() for logits in output] if isinstance(output, list) else output.float()
