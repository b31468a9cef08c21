"""The forward pass, loss and backward pass of a training step as one CUDA graph. Needs a CUDA device."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from scd_plugin.networks.cuda_graph import recorded

__all__ = ["Compute", "StepGraph"]

Compute = Callable[[Tensor, "Tensor | list[Tensor]"], Tensor]
"""Computes the loss of images (B, C, *size) with their target, or list of targets, and adds to the gradients."""


class StepGraph:
    """A recorded step over batches like one that is given, without the optimizer's part.

    A replay leaves its gradients with the parameters, in tensors of its own, over which its next replay writes. Random
    numbers go on from replay to replay, as PyTorch's generator on the device does.

    Args:
        compute: opens its own autocast, without a cache; its steps have run before, with kernels chosen.
        data: images (B, C, *size), on CUDA.
        target: a tensor or a list of tensors, on CUDA.
        parameters: those that are trained.
        beside: another graph, whose memory it shares; its gradients stay its own.

    Raises:
        RuntimeError: as PyTorch has it, if the step can't be recorded, or memory does not suffice.
    """

    def __init__(
        self,
        compute: Compute,
        data: Tensor,
        target: Tensor | list[Tensor],
        parameters: Sequence[nn.Parameter],
        beside: StepGraph | None = None,
    ) -> None:
        self._parameters = parameters
        with torch.cuda.device(data.device):
            self._data = data.clone()
            self._target = [one.clone() for one in target] if isinstance(target, list) else target.clone()

            def step() -> Tensor:
                # where there are none, a backward pass makes them, so a replay writes and does not add
                for parameter in parameters:
                    parameter.grad = None
                return compute(self._data, self._target)

            self.stream, self.graph, self._loss = recorded(step, beside)
        self._gradients = [parameter.grad for parameter in parameters]

    def __call__(self, data: Tensor, target: Tensor | list[Tensor]) -> Tensor:
        """Set the gradients of a batch, on the device or in pinned memory; return its loss, on the device."""
        self._data.copy_(data, non_blocking=True)
        if isinstance(self._target, list):
            for own, new in zip(self._target, target):
                own.copy_(new, non_blocking=True)
        else:
            self._target.copy_(target, non_blocking=True)  # type: ignore[arg-type]
        with torch.cuda.device(self._data.device):
            self.graph.replay()
        for parameter, gradient in zip(self._parameters, self._gradients):
            parameter.grad = gradient
        return self._loss
