"""A plain training loop that survives being killed, with Dice and cross-entropy."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch
from monai.losses import DeepSupervisionLoss, DiceCELoss
from networks import Contestant, Guide
from recipes import TRANSFORMER, Recipe
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from scd_plugin.networks.drawn_keep_ratio import DrawnKeepRatio
from scd_plugin.networks.guidance import StageWatch, guidance_loss
from scd_plugin.ops.token_labels import token_labels

CHECKPOINT_SECONDS = 120
LOG_STEPS = 25

logger = logging.getLogger(__name__)


class NotFiniteError(ArithmeticError):
    """The loss is no longer a number."""


def save(state: dict[str, Any], path: Path) -> None:
    """Write a file as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def train(
    network: Contestant,
    batches: Callable[[int], tuple[Tensor, Tensor]],
    *,
    steps: int,
    checkpoint: Path,
    guide: Guide | None = None,
    keep_ratios: Sequence[float] = (),
    late: float = 0.0,
    recipe: Recipe = TRANSFORMER,
    dtype: torch.dtype = torch.bfloat16,
) -> dict[str, float]:
    """Train a network where it is, going on from its checkpoint if there is one.

    Args:
        network: on the device to train on.
        batches: images and labels of a step.
        steps: length of the schedule.
        checkpoint: file that a killed run goes on from; removed by nobody here.
        guide: how labels teach the scores; None for the paper's training.
        keep_ratios: shares of tokens of which each step draws one; none for the network's own.
        late: share of the steps in which all tokens stay.
        recipe: optimizer and learning rate.
        dtype: bfloat16, which autocast chooses where it may, or float32 everywhere.

    Returns:
        seconds a step (the median, which pauses do not change) and the mean loss of the last tenth.

    Raises:
        NotFiniteError: if the loss is not finite.
    """
    device = next(network.parameters()).device
    optimizer = recipe.make(network.parameters())
    finest = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)
    # of one tensor of logits it takes the loss as it is
    criterion = DeepSupervisionLoss(finest, weights=getattr(network, "deep_weights", None))
    losses: list[float] = []
    seconds: list[float] = []
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"].cpu())
        if device.type == "cuda":
            torch.cuda.set_rng_state(state["random_on_device"].cpu(), device)
        losses, seconds = state["losses"], state["seconds"]
    network.train()
    watch = (getattr(network, "probes", None) or StageWatch(network)) if guide else None
    drawn, whole = DrawnKeepRatio(network, keep_ratios), DrawnKeepRatio(network, [1.0] if late else [])
    saved = time.monotonic()
    for step in range(len(losses), steps):
        start = time.monotonic()
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate(step, steps)
        images, labels = (part.to(device) for part in batches(step))
        ratio = whole if step < late * steps else drawn
        with ratio.at(step), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            logits = network(images)
        loss = criterion(tree_map(Tensor.float, logits), labels)
        if guide and watch:
            held = token_labels(labels, network.grid_size)
            loss = loss + guide.at(step / steps) * guidance_loss(watch.take(), held, target=guide.target)
        losses.append(loss.item())
        if not torch.isfinite(loss):
            msg = f"loss is {losses[-1]} at step {step}"
            raise NotFiniteError(msg)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
        optimizer.step()
        seconds.append(time.monotonic() - start)
        if (step + 1) % LOG_STEPS == 0:
            logger.info("step %d of %d, loss %.4f, %.2f s a step", step + 1, steps, mean(losses[-50:]), seconds[-1])
        if time.monotonic() - saved > CHECKPOINT_SECONDS or step + 1 == steps:
            state = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "losses": losses}
            state |= {"seconds": seconds, "random": torch.get_rng_state()}
            if device.type == "cuda":
                state["random_on_device"] = torch.cuda.get_rng_state(device)
            save(state, checkpoint)
            saved = time.monotonic()
    return {"seconds_a_step": median(seconds), "loss": mean(losses[-max(1, steps // 10) :])}
