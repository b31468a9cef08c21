"""Copies a network without its weights, to count what a forward pass costs."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from itertools import chain
from typing import Any, TypeVar

from torch import Tensor, nn

__all__ = ["valueless_copy"]

Network = TypeVar("Network", bound=nn.Module)


def valueless_copy(network: Network, stand_in: Callable[[Tensor], Tensor]) -> Network:
    """Copy a network in evaluation mode, with other tensors in place of its parameters and buffers.

    Who listens to its modules does not hear the copy's. `torch.func.functional_call` would leave the other tensors in
    the network where a module has two names, as in nnU-Net's networks.

    Args:
        network: left as it was.
        stand_in: returns a tensor of the same shape, such as one on PyTorch's meta device.
    """
    # what a deep copy finds here it takes as copied
    memo: dict[int, Any] = {
        id(tensor): _like(tensor, stand_in) for tensor in chain(network.parameters(), network.buffers())
    }
    # what listeners hold may have gradients, which can't be copied
    memo |= {id(vars(module)["_forward_hooks"]): OrderedDict() for module in network.modules()}
    return copy.deepcopy(network, memo).eval()


def _like(tensor: Tensor, stand_in: Callable[[Tensor], Tensor]) -> Tensor:
    other = stand_in(tensor.detach())
    return nn.Parameter(other, requires_grad=False) if isinstance(tensor, nn.Parameter) else other
