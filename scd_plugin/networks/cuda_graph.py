"""A forward pass as a CUDA graph: all of its kernels, started by one call of the processor. Needs a CUDA device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from scd_plugin.networks.cast_weights import CastCopy, cast_copy
from scd_plugin.networks.pass_key import memory_format

__all__ = ["CudaGraph", "recorded", "renew_state"]


class _Recorded(Protocol):
    """What has been recorded, and may have others beside it."""

    stream: Any
    graph: Any


def recorded(work: Callable[[], Any], beside: _Recorded | None = None) -> tuple[Any, Any, Any]:
    """Do work once on a stream of its own, where libraries make their workspaces, and then record it.

    Args:
        work: on the current CUDA device, the same every time; it leaves nothing behind that its next run would see.
        beside: what was recorded before, whose memory is shared.

    Returns:
        The stream, the graph, and what the work gave while it was recorded.

    Raises:
        RuntimeError: as PyTorch has it, if the work can't be recorded, or memory does not suffice.
    """
    caller = torch.cuda.current_stream()
    # memory is shared among graphs of one stream
    stream: Any = beside.stream if beside else torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(caller)
    with torch.cuda.stream(stream):
        work()
    caller.wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    recording = torch.cuda.graph(
        graph,
        pool=beside.graph.pool() if beside else None,
        stream=stream,
        # other threads go on, such as nnU-Net's, which bring the next window or batch: by default an allocation of
        # theirs would end this recording, or theirs
        capture_error_mode="thread_local",
    )
    try:
        # a recording that fails does not set the stream back
        with torch.cuda.stream(caller), recording:
            output = work()
    except BaseException:
        renew_state(torch.cuda.default_generators, torch.cuda.current_device())
        raise
    return stream, graph, output


def renew_state(generators: Sequence[Any], device: int) -> None:
    """Let a device's generator go on from where it is: a recording that fails may leave it as if it went on.

    Numbers drawn later would then raise an error in older PyTorch, https://github.com/pytorch/pytorch/issues/171263.
    """
    with suppress(AttributeError, IndexError, RuntimeError):
        generators[device].graphsafe_set_state(generators[device].clone_state())


def _cast_and_passed(copied: CastCopy, image: Tensor) -> Any:
    """Answer of a copied network, whose weights are cast first."""
    copied.renew()
    return nn.Module.__call__(copied.network, image)


class CudaGraph:
    """A recorded pass of a network over images like one that is given.

    The network is not kept, only the places of its weights, and under autocast a copy of its modules: each replay
    begins with one operator that casts the weights, in place of one for each of them. Whatever is called between
    recording and replay may use the device, in this thread or another; a replay must not be started while one of the
    `others` is running.

    Args:
        network: without hooks; its passes have run before, with kernels chosen and workspaces made.
        image: (B, in_channels, *img_size), on CUDA.
        others: graphs of the network, of the same stream, whose memory it shares.

    Raises:
        RuntimeError: as PyTorch has it, if the pass can't be recorded, or memory does not suffice.
    """

    def __init__(self, network: nn.Module, image: Tensor, others: Sequence[CudaGraph] = ()) -> None:
        kind = image.device.type
        autocast = torch.autocast(
            kind,
            dtype=torch.get_autocast_dtype(kind),
            enabled=torch.is_autocast_enabled(kind),
            # a weight cast before would be read where it lay, and never cast again
            cache_enabled=False,
        )
        # replays in or out of inference mode write into these tensors
        with torch.cuda.device(image.device), torch.inference_mode(mode=False), torch.no_grad(), autocast:
            self.image = torch.empty_like(image, memory_format=memory_format(image)).copy_(image)
            self.copied: CastCopy | None = None
            """Kept, since the graph reads what it holds."""
            work = partial(nn.Module.__call__, network, self.image)
            if torch.is_autocast_enabled(kind):
                known = {key: one for other in others if other.copied for key, one in other.copied.cast.items()}
                self.copied = cast_copy(network, torch.get_autocast_dtype(kind), known)
                if self.copied is not None:
                    work = partial(_cast_and_passed, self.copied, self.image)
            self.stream, self.graph, self.output = recorded(work, others[0] if others else None)

    def __call__(self, image: Tensor) -> Any:
        """Answer for an image; the next replay writes over the answer."""
        with torch.cuda.device(image.device):
            self.image.copy_(image)
            self.graph.replay()
        return self.output
