"""What is timed, one forward pass as at inference or one training step as in nnU-Net, and the clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from monai.losses import DeepSupervisionLoss, DiceCELoss
from torch import Tensor, nn

from scd_plugin.bench.bench_settings import BenchSettings

__all__ = ["MODES", "Mode", "Step", "autocast", "for_inference", "forward_step", "mark", "random_batch"]
__all__ += ["seconds_between", "seconds_per_step", "training_loss", "training_step"]

Step = Callable[[], "dict[str, float] | None"]
"""does the work once; may say how many seconds its stages took"""
MakeStep = Callable[[nn.Module, Any], Step]
"""of a network and settings"""


def random_batch(settings: BenchSettings) -> tuple[Tensor, Tensor]:
    """Image (B, in_channels, *crop) and label (B, 1, *crop) of noise, drawn alike for every contestant."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(settings.batch, settings.in_channels, *settings.crop, generator=generator)
    label = torch.randint(0, settings.out_channels, (settings.batch, 1, *settings.crop), generator=generator).float()
    return image.to(settings.device), label.to(settings.device)


def autocast(settings: BenchSettings, *, cache: bool = True) -> Callable[[], AbstractContextManager[Any]]:
    """Makes the context in which forward passes and losses run; a captured graph keeps no cache of cast weights."""
    if settings.dtype == "float32":
        return nullcontext
    return partial(torch.autocast, settings.device, dtype=getattr(torch, settings.dtype), cache_enabled=cache)


def for_inference(network: nn.Module) -> None:
    """Put a network in evaluation mode, without deep supervision, and without graphs, which others do not have."""
    whole: Any = network
    decoder: Any = getattr(whole, "decoder", None)
    if hasattr(decoder, "deep_supervision"):
        decoder.deep_supervision = False
    if hasattr(whole, "use_cuda_graphs"):
        whole.use_cuda_graphs = False
    network.eval()


def forward_step(network: nn.Module, settings: BenchSettings) -> Step:
    """A forward pass in inference mode; the network, compiled or not, is put in evaluation mode."""
    for_inference(network)
    (image, _), amp = random_batch(settings), autocast(settings)

    def step() -> None:
        with torch.inference_mode(), amp():
            network(image)

    return step


def training_loss() -> nn.Module:
    """Dice and cross-entropy with nnU-Net's choices."""
    return DeepSupervisionLoss(DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True))


def training_step(network: nn.Module, settings: BenchSettings) -> Step:
    """Forward pass, Dice and cross-entropy, backward pass, gradient clipping and AdamW; float16 with a scaler."""
    network.train()
    (image, label), amp, loss_function = random_batch(settings), autocast(settings), training_loss()
    # of nnU-Net's transformer trainers
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-4, betas=(0.9, 0.98), weight_decay=0.05, fused=True)
    # at nnU-Net's scale the first steps overflow, and the optimizer, with its time and memory, is left out of them
    scaler = torch.amp.GradScaler(image.device.type, init_scale=1.0, enabled=settings.dtype == "float16")

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with amp():
            loss = loss_function(network(image), label)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(network.parameters(), 1)
        scaler.step(optimizer)
        scaler.update()

    return step


class Mode(NamedTuple):
    """Something that every contestant is timed at."""

    name: str
    step: MakeStep
    least_warm_up: int = 1
    """Steps without which the most memory is not yet held."""
    warm_up: MakeStep | None = None
    """What runs untimed where it is not the step itself. Such a step is timed alone, however short."""


MODES = MappingProxyType(
    {
        "forward": Mode("forward", forward_step),
        # AdamW makes its state at the end of the first step, so that only the second holds all at once
        "train": Mode("train", training_step, least_warm_up=2),
    }
)


def mark(*, cuda: bool) -> Any:
    """Now, for `seconds_between`; on a GPU when the work so far will be done, by its own clock."""
    if not cuda:
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return event


def seconds_between(marks: Sequence[Any], *, cuda: bool) -> float:
    """Seconds from every mark with an even place to the one after it, added up."""
    if cuda and marks:
        marks[-1].synchronize()
    pairs = zip(marks[::2], marks[1::2])
    return sum(start.elapsed_time(end) / 1000 if cuda else end - start for start, end in pairs)


def seconds_per_step(step: Step, steps: int, *, cuda: bool) -> float:
    """Mean seconds of some steps in a row; `torch.utils.benchmark.Timer` would run each turn twice more to warm up."""
    if cuda:
        torch.cuda.synchronize()
    begin = mark(cuda=cuda)
    for _ in range(steps):
        step()
    return seconds_between([begin, mark(cuda=cuda)], cuda=cuda) / steps
