"""What is timed: one forward pass as at inference, or one training step as in nnU-Net."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from monai.losses import DeepSupervisionLoss, DiceCELoss
from torch import Tensor, nn

__all__ = [
    "Amp",
    "Step",
    "autocast",
    "for_inference",
    "forward_step",
    "random_batch",
    "seconds_per_step",
    "training_step",
]

Step = Callable[[], None]
Amp = Callable[[], AbstractContextManager[Any]]


def random_batch(
    in_channels: int, out_channels: int, crop: Sequence[int], *, batch: int, device: str
) -> tuple[Tensor, Tensor]:
    """Image (B, in_channels, *crop) and label (B, 1, *crop) of noise, drawn alike for every contestant."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(batch, in_channels, *crop, generator=generator)
    label = torch.randint(0, out_channels, (batch, 1, *crop), generator=generator).float()
    return image.to(device), label.to(device)


def autocast(dtype: str, device: str) -> Amp:
    """Makes the context in which forward passes and losses run."""
    if dtype == "float32":
        return nullcontext
    return partial(torch.autocast, device, dtype=getattr(torch, dtype))


def for_inference(network: nn.Module) -> None:
    """Evaluation mode, without deep supervision."""
    decoder = getattr(network, "decoder", None)
    if hasattr(decoder, "deep_supervision"):
        decoder.deep_supervision = False  # type: ignore[union-attr]
    network.eval()


def forward_step(network: nn.Module, image: Tensor, amp: Amp) -> Step:
    """A forward pass in inference mode; the network is in evaluation mode, without deep supervision."""
    for_inference(network)

    def step() -> None:
        with torch.inference_mode(), amp():
            network(image)

    return step


def training_step(network: nn.Module, image: Tensor, label: Tensor, amp: Amp, *, scale: bool) -> Step:
    """Forward pass, Dice and cross-entropy, backward pass, gradient clipping and AdamW.

    Args:
        network: compiled or not.
        image: see `random_batch`.
        label: see `random_batch`.
        amp: see `autocast`.
        scale: with a gradient scaler, as float16 needs it.
    """
    network.train()
    loss_function = DeepSupervisionLoss(
        DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)  # nnU-Net's choices
    )
    # of nnU-Net's transformer trainers
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-4, betas=(0.9, 0.98), weight_decay=0.05, fused=True)
    # at nnU-Net's scale the first steps overflow, and the optimizer, with its time and memory, is left out of them
    scaler = torch.amp.GradScaler(image.device.type, init_scale=1.0, enabled=scale)

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


def seconds_per_step(step: Step, steps: int, *, cuda: bool) -> float:
    """Mean time of some steps in a row: by CUDA events, or by the clock.

    `torch.utils.benchmark.Timer` would run every turn twice more to warm up, minutes for a large network on a CPU.
    """
    if not cuda:
        start = time.perf_counter()
        for _ in range(steps):
            step()
        return (time.perf_counter() - start) / steps
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    torch.cuda.synchronize()
    begin.record()
    for _ in range(steps):
        step()
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end)) / 1000 / steps
