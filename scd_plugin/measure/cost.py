"""Counts what a network costs on paper: multiply-accumulates and parameters."""

from __future__ import annotations

from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["multiply_accumulates", "parameters"]


def multiply_accumulates(network: nn.Module, image: Tensor) -> int:
    """Multiply-accumulates of a forward pass in evaluation mode: convolutions, matrix products and attention.

    Counted on PyTorch's meta device, whatever device the network is on; its weights stay where they are.

    Args:
        network: its mode is left as it was.
        image: (B, in_channels, *img_size) to count for; its values are not looked at.
    """
    tensors = chain(network.named_parameters(), network.named_buffers())
    on_meta = {name: tensor.detach().to("meta") for name, tensor in tensors}
    training = network.training
    network.eval()
    # the counter does not know every fused attention; as two matrix products it is counted in full everywhere
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        torch.func.functional_call(network, on_meta, (image.to("meta"),))
    network.train(training)
    return int(counter.get_total_flops()) // 2


def parameters(network: nn.Module) -> int:
    """Number of learned numbers."""
    return sum(parameter.numel() for parameter in network.parameters())
