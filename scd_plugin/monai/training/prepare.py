"""What a training needs beyond declarations: going on after a stop, stopping early, clipping, layer-wise rates."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from ignite.engine import Events
from ignite.handlers import EarlyStopping
from monai.engines import Evaluator, Trainer
from monai.handlers import CheckpointLoader
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from scd_plugin.monai.training.last_checkpoint import checkpoints_by_epoch, last_checkpoint, last_checkpoint_saver
from scd_plugin.networks import SCDNetwork
from scd_plugin.networks.checkpoints import mismatch

__all__ = ["clip_gradients", "layer_decay_groups", "prepare_training"]

# checkpoints of earlier versions, and of trainings with other options, do not hold them
_OPTIONAL = ("best", "early_stopping")
_LOGGER = logging.getLogger(__name__)


def prepare_training(
    trainer: Trainer,
    evaluator: Evaluator,
    state: Mapping[str, Any],
    *,
    ckpt_dir: str,
    resume: bool = False,
    early_stopping: int = 0,
) -> None:
    """Attach what refers to the trainer itself, which a config's own handlers can't.

    Args:
        trainer: saves its state and `state` at the end of every epoch, the last one only.
        evaluator: its key metric decides about stopping early; runs after the last epoch, whatever the interval is.
        state: network, optimizer and the like, by name.
        ckpt_dir: folder of the checkpoints.
        resume: go on from the latest checkpoint there that can be read.
        early_stopping: stop after so many validations without a better metric; 0 for never.

    Raises:
        ValueError: if there is nothing to resume from, or it is of another network or a longer training.
    """
    everything = {**state, "trainer": trainer}
    if early_stopping:
        everything["early_stopping"] = EarlyStopping(
            patience=early_stopping,
            score_function=lambda engine: engine.state.metrics[engine.state.key_metric_name],
            trainer=trainer,
        )
        evaluator.add_event_handler(Events.COMPLETED, everything["early_stopping"])
    if resume:
        file = last_checkpoint(ckpt_dir)
        saved = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        if problem := _unfit(trainer, state.get("network"), saved):
            msg = f"{file} {problem}, or start without --resume True"
            raise ValueError(msg)
        wanted = {name: value for name, value in everything.items() if name not in _OPTIONAL or name in saved}
        CheckpointLoader(load_path=file, load_dict=wanted, map_location="cpu").attach(trainer)
        trainer.add_event_handler(Events.STARTED, _count_steps, trainer.state.epoch_length)
        for value in state.values():
            if isinstance(value, LambdaLR):
                trainer.add_event_handler(Events.STARTED, _follow, value, _settings(value))
    # before the checkpoint, which holds what came of it
    trainer.add_event_handler(Events.EPOCH_COMPLETED, _validate_the_last, evaluator)
    if not dist.is_initialized() or dist.get_rank() == 0:
        if not resume and (earlier := checkpoints_by_epoch(ckpt_dir)):
            _LOGGER.warning("%s goes when the first epoch is saved; --resume True would go on from it", earlier[0])
        trainer.add_event_handler(Events.EPOCH_COMPLETED, last_checkpoint_saver(everything, ckpt_dir))


def _unfit(trainer: Trainer, network: nn.Module | None, saved: Mapping[str, Any]) -> str:
    """Say why a training can't go on from a checkpoint, in words that follow its name; empty if it can."""
    epoch = saved["trainer"]["iteration"] // saved["trainer"]["epoch_length"]
    if epoch > trainer.state.max_epochs:
        return f"is of epoch {epoch}, beyond --epochs {trainer.state.max_epochs}: give as many or more"
    if network is not None:
        # of several processes' wrapper the checkpoint has the network alone
        own = getattr(network, "module", network).state_dict()
        if problems := mismatch(own, saved["network"], at_most=2, drop_heads=False):
            return f"holds another network than these options make ({problems}): give those of its training"
    return ""


def _count_steps(trainer: Trainer, epoch_length: int) -> None:
    """Let an epoch have the steps of today's data and batch, after a checkpoint, which holds its own, was read."""
    epoch = trainer.state.epoch
    trainer.state.epoch_length = epoch_length
    trainer.state.iteration = epoch * epoch_length


_PROGRESS = ("last_epoch", "lr_lambdas")


def _settings(schedule: LambdaLR) -> dict[str, Any]:
    """Read what a schedule was built with, such as its length and the largest learning rates."""
    return {
        name: value
        for name, value in schedule.state_dict().items()
        if not name.startswith("_") and name not in _PROGRESS
    }


def _follow(schedule: LambdaLR, asked: Mapping[str, Any]) -> None:
    """Let a schedule go on as it was built, after a checkpoint, which holds former settings, was read into it."""
    found = _settings(schedule)
    vars(schedule).update(asked)
    changes = [f"{name} {value} in place of {found[name]}" for name, value in asked.items() if value != found.get(name)]
    if changes:
        _LOGGER.warning("the learning rate follows other settings than before: %s", ", ".join(changes))
        for group, rate in zip(schedule.optimizer.param_groups, schedule.get_lr()):
            group["lr"] = rate


def _validate_the_last(trainer: Trainer, evaluator: Evaluator) -> None:
    """Validate after the last epoch, unless that was just done."""
    if trainer.state.epoch == trainer.state.max_epochs != evaluator.state.epoch:
        evaluator.run(trainer.state.epoch)


def clip_gradients(optimizer: torch.optim.Optimizer, max_norm: float) -> None:
    """Clip the norm of all gradients before every step of `optimizer`, under a gradient scaler too.

    Args:
        optimizer: changed in place.
        max_norm: the norm that is left.
    """

    def clip(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        nn.utils.clip_grad_norm_(parameters, max_norm)

    optimizer.register_step_pre_hook(clip)


# of SCDUNETR and of SCDPrimus
_EMBEDDING = re.compile(r"encoder\.(patch_embed|cls_token|pos_embed)|down_projection|register_tokens|eva\.pos_embed")
_NEVER_DECAYED = ("pos_embed", "cls_token", "register_tokens", "layer_embed")


def layer_decay_groups(
    network: SCDNetwork, *, lr: float, layer_decay: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Parameter groups whose learning rate falls towards the encoder's first block.

    Args:
        network: whose blocks lie beside its learned positions.
        lr: of all that is not in the encoder's blocks or embedding.
        layer_decay: factor from one block to the one before it; the embedding lies one step below the first block.
        weight_decay: of matrices and kernels; vectors (biases, norms) and positions have none.

    Returns:
        Groups for a torch optimizer.

    Source: BEiT, arXiv 2106.08254, with the settings of arXiv 2303.06522.
    """
    encoder = network.positions.rpartition(".")[0]
    depth = len(network.get_submodule(f"{encoder}.blocks"))  # type: ignore[arg-type]
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in network.named_parameters():
        block = re.match(rf"{encoder}\.blocks\.(\d+)\.", name)
        level = int(block.group(1)) + 1 if block else 0 if _EMBEDDING.match(name) else depth + 1
        decays = parameter.ndim > 1 and not name.endswith(_NEVER_DECAYED)
        group = groups.setdefault(
            (level, decays),
            {
                "params": [],
                "lr": lr * layer_decay ** (depth + 1 - level),
                "weight_decay": weight_decay if decays else 0.0,
            },
        )
        group["params"].append(parameter)
    return list(groups.values())
