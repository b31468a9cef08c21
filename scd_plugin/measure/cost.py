"""Counts what a network costs on paper: multiply-accumulates and parameters."""

from __future__ import annotations

import copy
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
    copied = _copy_to_meta(network)
    # the counter does not know every fused attention; as two matrix products it is counted in full everywhere
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        copied(image.to("meta"))
    return int(counter.get_total_flops()) // 2


def parameters(network: nn.Module) -> int:
    """Number of learned numbers."""
    return sum(parameter.numel() for parameter in network.parameters())


def _copy_to_meta(network: nn.Module) -> nn.Module:
    # not `torch.func.functional_call`: it leaves meta tensors behind where a module has two names, as nnU-Net's have
    tensors = chain(network.parameters(), network.buffers())
    # what a deep copy finds here it takes as copied
    return copy.deepcopy(network, {id(tensor): _on_meta(tensor) for tensor in tensors}).eval()


def _on_meta(tensor: Tensor) -> Tensor:
    there = tensor.detach().to("meta")
    return nn.Parameter(there, requires_grad=False) if isinstance(tensor, nn.Parameter) else there
