"""nnU-Net trainers that train `SCDUNETR`.

A trainer's name is all that a checkpoint keeps of its network: at prediction nnU-Net finds the class by that name and
builds the network from the plans, with no trainer object. So every setting is a class attribute. A setting of your own
is a subclass of three lines (see docs/how-to/own-settings.md).
"""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.training.nnUNetTrainer.primus.primus_trainers import AbstractPrimus
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from scd_plugin.blocks.decoders import num_taps
from scd_plugin.networks import SCDUNETR
from scd_plugin.networks.checkpoints import mismatch
from scd_plugin.nnunet.checkpoint import read_checkpoint, trusted_checkpoint_types, unwrapped
from scd_plugin.nnunet.nonfinite import NonFiniteWatch, drop_non_finite_gradients
from scd_plugin.nnunet.plans import network_arguments
from scd_plugin.nnunet.progress import EpochProgress

__all__ = [
    "nnUNetTrainerSCD",
    "nnUNetTrainerSCD_5epochs",
    "nnUNetTrainerSCD_50epochs",
    "nnUNetTrainerSCD_100epochs",
    "nnUNetTrainerSCD_250epochs",
    "nnUNetTrainerSCD_deepsupervision",
    "nnUNetTrainerSCD_demo",
    "nnUNetTrainerSCD_dense",
    "nnUNetTrainerSCD_large",
    "nnUNetTrainerSCD_small",
]


_CHECKPOINT_ENTRIES = ("network_weights", "optimizer_state", "init_args", "current_epoch", "logging", "_best_ema")


class nnUNetTrainerSCD(AbstractPrimus):
    """SCD-UNETR of the base size, trained as nnU-Net trains its own transformers.

    AdamW (3e-4, weight decay 0.05), linear warm-up, polynomial decay and gradient clipping at 1 come from nnU-Net's
    Primus trainers; loss, augmentation, sampling and everything else from nnU-Net's default trainer.
    """

    scd_size = "base"
    """Network size, see `scd_plugin.networks.presets`."""
    scd_keep_ratio: float = 0.25
    """Share of the tokens kept at each pruning stage; 1 for the dense twin."""
    scd_num_epochs = 1000
    """Length of the schedule."""
    scd_deep_supervision = False
    """Off, as in the paper and in nnU-Net's own transformers; see docs/explanation/training.md for the measurement."""

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = self.scd_num_epochs
        self.enable_deep_supervision = self.scd_deep_supervision
        self.progress = EpochProgress(enabled=self.local_rank == 0)
        self.non_finite = NonFiniteWatch()

    @classmethod
    def build_network_architecture(  # a class method, so that subclasses are nothing but settings
        cls,
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> SCDUNETR:
        """The network for a configuration of the plans; nnU-Net calls this at training and at prediction."""
        arguments = network_arguments(configuration_manager.configuration, size=cls.scd_size)
        return SCDUNETR(
            in_channels=num_input_channels,
            out_channels=num_output_channels,
            keep_ratio=cls.scd_keep_ratio,
            drop_path_rate=0.1,
            deep_supervision=enable_deep_supervision,
            **arguments,
        )

    def configure_optimizers(self, stage: str = "warmup_all") -> tuple[Any, Any]:
        """AdamW and the schedule of Primus, the warm-up cut to 5 % of the epochs (Primus: 50 of 1000)."""
        self.warmup_duration_whole_net = max(1, self.num_epochs // 20)
        if self.num_epochs <= self.warmup_duration_whole_net:
            # a single epoch has no second stage; nnU-Net's scheduler for it would divide by zero
            stage = "warmup_all"
        before = self.optimizer
        optimizer, schedule = super().configure_optimizers(stage)
        # on CUDA nnU-Net's gradient scaler does this
        if optimizer is not before and self.grad_scaler is None:
            optimizer.register_step_pre_hook(drop_non_finite_gradients)
        return optimizer, schedule

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """As in nnU-Net's default trainer; the Primus trainers have none."""
        nnUNetTrainer.set_deep_supervision_enabled(self, enabled)

    def _get_deep_supervision_scales(self) -> list[list[float]] | None:
        """Those of our decoder's levels; nnU-Net's go down to a bottleneck that tokens may not reach, or pass."""
        if not self.enable_deep_supervision:
            return None
        arguments = network_arguments(self.configuration_manager.configuration, size=self.scd_size)
        strides = arguments["strides"]
        levels = num_taps(strides, arguments["pool_stride"])
        return [
            [1 / prod(step[axis] for step in strides[:level]) for axis in range(len(strides[0]))]
            for level in range(levels)
        ]

    def save_checkpoint(self, filename: str) -> None:
        """As in nnU-Net, but a process killed while it writes leaves the checkpoint before."""
        partial = Path(f"{filename}.partial")
        super().save_checkpoint(str(partial))
        if partial.exists():
            partial.replace(filename)

    def load_checkpoint(self, filename_or_checkpoint: dict[str, Any] | str) -> None:
        """As in nnU-Net, with one sentence where the checkpoint does not fit.

        nnU-Net 2.8.1's warm-up trainers cannot read its own checkpoints back: they call `torch.load` with its default
        `weights_only=True`, which refuses the NumPy scalars of the log; and they lose what they were given if that is
        not a file name.

        Raises:
            ValueError: if the checkpoint is damaged, foreign, or of another network.
        """
        if not self.was_initialized:
            self.initialize()
        source = filename_or_checkpoint
        checkpoint = read_checkpoint(source, needs=_CHECKPOINT_ENTRIES) if isinstance(source, str) else source
        problems = mismatch(unwrapped(self.network).state_dict(), checkpoint["network_weights"], at_most=3)
        if problems:
            writer = checkpoint.get("trainer_name")
            msg = (
                f"checkpoint {source if isinstance(source, str) else ''} of {writer} does not fit "
                f"{type(self).__name__} with these plans: {problems}. Another size, another patch size or the dense "
                "twin wrote it; name that trainer and those plans, or start a new training"
            )
            raise ValueError(msg)
        with trusted_checkpoint_types():
            super().load_checkpoint(filename_or_checkpoint)

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self.progress.start(f"epoch {self.current_epoch} train", self.num_iterations_per_epoch)

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        result: dict[str, Any] = super().train_step(batch)
        self.progress.step(loss=float(result["loss"]))
        line = self.non_finite.see(float(result["loss"]), batch.get("keys", ()))
        if line:
            self.print_to_log_file(line)
        return result

    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        self.progress.start(f"epoch {self.current_epoch} validate", self.num_val_iterations_per_epoch)

    def validation_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        result: dict[str, Any] = super().validation_step(batch)
        self.progress.step(loss=float(result["loss"]))
        return result

    def on_epoch_end(self) -> None:
        self.progress.close()
        super().on_epoch_end()


class nnUNetTrainerSCD_small(nnUNetTrainerSCD):
    """SCD-UNETR of the small size."""

    scd_size = "small"


class nnUNetTrainerSCD_large(nnUNetTrainerSCD):
    """SCD-UNETR of the large size."""

    scd_size = "large"


class nnUNetTrainerSCD_dense(nnUNetTrainerSCD):
    """The dense twin: same network without pruning, the baseline for every comparison."""

    scd_keep_ratio = 1.0


class nnUNetTrainerSCD_deepsupervision(nnUNetTrainerSCD):
    """With nnU-Net's deep supervision."""

    scd_deep_supervision = True


class nnUNetTrainerSCD_5epochs(nnUNetTrainerSCD):
    """For trying out."""

    scd_num_epochs = 5


class nnUNetTrainerSCD_50epochs(nnUNetTrainerSCD):
    """Short schedule."""

    scd_num_epochs = 50


class nnUNetTrainerSCD_100epochs(nnUNetTrainerSCD):
    """Short schedule."""

    scd_num_epochs = 100


class nnUNetTrainerSCD_250epochs(nnUNetTrainerSCD):
    """Short schedule."""

    scd_num_epochs = 250


class nnUNetTrainerSCD_demo(nnUNetTrainerSCD):
    """For `make demo`: a tiny network and minutes of training on two CPU cores. Not for real data."""

    scd_size = "tiny"
    scd_num_epochs = 20

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        # 0.01 is too much for a long schedule; within a few hundred steps only large ones get anywhere
        self.initial_lr = 1e-2
        self.num_iterations_per_epoch = 18
        self.num_val_iterations_per_epoch = 2
