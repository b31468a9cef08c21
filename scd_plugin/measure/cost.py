"""Counts what a network costs on paper: multiply-accumulates and parameters."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from scd_plugin.measure.valueless_copy import valueless_copy

__all__ = ["multiply_accumulates", "parameters"]


def multiply_accumulates(network: nn.Module, image: Tensor) -> int:
    """Multiply-accumulates of a forward pass in evaluation mode: convolutions, matrix products and attention.

    Counted on PyTorch's meta device, whatever device the network is on; its weights stay where they are.

    Args:
        network: its mode is left as it was.
        image: (B, in_channels, *img_size) to count for; its values are not looked at.
    """
    copied = valueless_copy(network, lambda tensor: tensor.to("meta"))
    # the counter does not know every fused attention; as two matrix products it is counted in full everywhere
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        copied(image.to("meta"))
    return int(counter.get_total_flops()) // 2


def parameters(network: nn.Module) -> int:
    """Number of learned numbers."""
    return sum(parameter.numel() for parameter in network.parameters())
