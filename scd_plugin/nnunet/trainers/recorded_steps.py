"""Which training steps are replayed as CUDA graphs, and their losses, which are read one step late.

To start the kernels of a step one by one takes the processor longer than a large GPU needs to compute them; and who
reads a loss at once lets the GPU wait. Steps that come first are computed as ever, and where a recording fails, all.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from scd_plugin.nnunet.trainers.step_graph import Compute, StepGraph

__all__ = ["MAX_GRAPHS", "WARM_UP", "LateLosses", "RecordedSteps", "why_not_recorded"]

WARM_UP = 3
"""Steps of a kind that are computed before one is recorded."""
MAX_GRAPHS = 8
"""Kinds of steps that are recorded; each has gradients of its own."""


def why_not_recorded(device: torch.device, *, distributed: bool, ignore_label: bool) -> str | None:
    """Return why the steps of a training can't be recorded; None if they can."""
    if device.type != "cuda":
        return f"the device is {device.type}, not cuda"
    if distributed:
        return "gradients are gathered from several processes"
    # nnU-Net's loss asks for the number of known voxels
    return "the data set has an ignore label" if ignore_label else None


def _place(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.data_ptr(), tensor.dtype, tensor.shape


class RecordedSteps:
    """Replays the forward pass, loss and backward pass of steps whose kind has come before.

    Args:
        compute: see `Compute`.
        parameters: those that are trained.
        log: takes a line that says what is done.
    """

    def __init__(self, compute: Compute, parameters: Sequence[nn.Parameter], log: Callable[[str], object]) -> None:
        self._compute, self._parameters, self._log = compute, list(parameters), log
        self._graphs: dict[Hashable, StepGraph] = {}
        self._counts: dict[Hashable, int] = {}
        self.failed = False

    def __call__(self, data: Tensor, target: Tensor | list[Tensor], kind: Hashable) -> Tensor | None:
        """Set the gradients of a batch; return its loss, over which the next replay writes.

        Args:
            data: images (B, C, *size).
            target: a tensor or a list of tensors.
            kind: what else a step depends on that is no number in a tensor.

        Returns:
            None where the step is still to be computed; gradients are then not set.
        """
        if self.failed:
            return None
        targets = target if isinstance(target, list) else [target]
        places = tuple(_place(parameter) for parameter in self._parameters)
        key = kind, places, *((one.shape, one.dtype) for one in (data, *targets))
        if key not in self._graphs:
            self._counts[key] = self._counts.get(key, 0) + 1
            if self._counts[key] <= WARM_UP or len(self._graphs) >= MAX_GRAPHS:
                return None
            if not self._record(key, data, target):
                return None
        return self._graphs[key](data, target)

    def _record(self, key: Hashable, data: Tensor, target: Tensor | list[Tensor]) -> bool:
        device = self._parameters[0].device
        beside = next(iter(self._graphs.values()), None)
        try:
            there = [one.to(device) for one in target] if isinstance(target, list) else target.to(device)
            self._graphs[key] = StepGraph(self._compute, data.to(device), there, self._parameters, beside)
        except Exception as error:  # noqa: BLE001  (whatever it is, the step can still be computed)
            first_line = (str(error).splitlines() or [""])[0]
            self._log(
                f"scd_cuda_graph: steps are computed one by one from now on, since a recording failed "
                f"({type(error).__name__}: {first_line}); results are the same, only slower"
            )
            self.failed = True
        else:
            if beside is None:
                self._log("scd_cuda_graph: forward pass, loss and backward pass are replayed from now on")
            return True
        # only now nothing of the error holds memory
        self._graphs.clear()
        if device.type == "cuda":
            torch.cuda.empty_cache()
        return False


class LateLosses:
    """Losses on their way from the device, with the batches that they belong to."""

    def __init__(self) -> None:
        self._coming: list[tuple[Tensor, Any, dict[str, Any]]] = []

    def put(self, loss: Tensor, batch: dict[str, Any]) -> None:
        """Begin to fetch a loss, a scalar."""
        event = None
        fetched = torch.empty((), dtype=loss.dtype, pin_memory=loss.is_cuda)
        fetched.copy_(loss, non_blocking=True)
        if loss.is_cuda:
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
        self._coming.append((fetched, event, batch))

    def batches(self) -> list[dict[str, Any]]:
        """Return the batches whose losses have not been taken."""
        return [batch for _, _, batch in self._coming]

    def take(self, leave: int = 0) -> list[tuple[float, dict[str, Any]]]:
        """Return the losses that were put first, with their batches, and leave so many of the last ones."""
        number = max(len(self._coming) - leave, 0)
        taken, self._coming = self._coming[:number], self._coming[number:]
        for _, event, _ in taken:
            if event is not None:
                event.synchronize()
        return [(float(loss), batch) for loss, _, batch in taken]
