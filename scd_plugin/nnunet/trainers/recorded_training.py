"""nnU-Net's trainer of transformers, with training steps that are replayed as CUDA graphs where that is asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from nnunetv2.training.nnUNetTrainer.primus.primus_trainers import AbstractPrimus
from torch import Tensor

from scd_plugin.networks.family import SCDNetwork
from scd_plugin.nnunet.trainers.inner_network import unwrapped
from scd_plugin.nnunet.trainers.recorded_steps import LateLosses, RecordedSteps, why_not_recorded

__all__ = ["RecordedTraining"]


class RecordedTraining(AbstractPrimus):
    """Trains as nnU-Net does; the optimizer, gradient scaler and clipping stay outside of the graphs."""

    scd_cuda_graph = False
    """Whether training steps on one CUDA device are replayed as CUDA graphs; not measured yet, so off."""

    recorded: RecordedSteps | None = None
    """Graphs of training steps, where these are recorded."""

    def initialize(self) -> None:
        super().initialize()
        self.late_losses = LateLosses()
        self._losses_of_epoch: list[float] = []
        if not self.scd_cuda_graph:
            return
        ignore_label = self.label_manager.has_ignore_label
        if why_not := why_not_recorded(self.device, distributed=self.is_ddp, ignore_label=ignore_label):
            self.print_to_log_file(f"scd_cuda_graph: steps are computed one by one, since {why_not}")
            return
        self.recorded = RecordedSteps(self._gradients, list(self.network.parameters()), self.print_to_log_file)

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self._losses_of_epoch = []

    def on_train_end(self) -> None:
        super().on_train_end()
        if self.recorded:
            # the final validation has a use for their memory
            self.recorded = None
            self.optimizer.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Train on a batch and return its loss; where steps are recorded, that of the step before."""
        loss = self.recorded(batch["data"], batch["target"], self._kind_of_step()) if self.recorded else None
        if loss is None:
            self._see_late_losses()
            result: dict[str, Any] = super().train_step(batch)
            self.see_loss(float(result["loss"]), batch)
            return result
        self._update()
        self.late_losses.put(loss, batch)
        self._see_late_losses(leave=1)
        return {"loss": np.array(self._losses_of_epoch[-1] if self._losses_of_epoch else np.nan)}

    def on_train_epoch_end(self, train_outputs: list[dict[str, Any]]) -> None:
        self._see_late_losses()
        if self.recorded:
            train_outputs = [{"loss": np.array(loss)} for loss in self._losses_of_epoch]
        super().on_train_epoch_end(train_outputs)

    def see_loss(self, loss: float, _batch: dict[str, Any]) -> None:
        """Take the loss of a step, once it is known, and the batch of that step."""
        self._losses_of_epoch.append(loss)

    def _see_late_losses(self, leave: int = 0) -> None:
        for loss, batch in self.late_losses.take(leave):
            self.see_loss(loss, batch)

    def _kind_of_step(self) -> tuple[Any, ...]:
        """What a step depends on that is no number in a tensor."""
        network: Any = unwrapped(self.network)
        stages = network.pruning_stages() if isinstance(network, SCDNetwork) else ()
        scale = None if self.grad_scaler is None else id(self.grad_scaler._scale)  # noqa: SLF001
        return network.training, scale, tuple(stage.keep_ratio for stage in stages)

    def _gradients(self, data: Tensor, target: Tensor | list[Tensor]) -> Tensor:
        """Compute the loss and add to the gradients, scaled on CUDA, as nnU-Net's training step does."""
        # weights that were cast before would be read where they lay, and never cast again
        with torch.autocast("cuda", enabled=self.device.type == "cuda", cache_enabled=False):
            loss: Tensor = self.loss(self.network(data), target)
        (loss if self.grad_scaler is None else self.grad_scaler.scale(loss)).backward()
        return loss.detach()

    def _update(self) -> None:
        """Move the weights along the gradients, as nnU-Net's training step of transformers does."""
        if self.grad_scaler is not None:
            self.grad_scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1)
        if self.grad_scaler is None:
            self.optimizer.step()
        else:
            self.grad_scaler.step(self.optimizer)
            self.grad_scaler.update()
