"""nnU-Net's trainers of `SCDUNETR`; the first of them also trains whatever network of SCD the plans name."""

from __future__ import annotations

from typing import Any

import torch

from scd_plugin.nnunet.trainers.base import PruningTrainer


class nnUNetTrainerSCD(PruningTrainer):
    """The network that the plans name; without one SCD-UNETR of the base size."""

    scd_settings_are_defaults = True
    scd_size = "base"
    """A preset: its whole network, keep ratios included; see `scd_plugin.networks.presets`."""

    @classmethod
    def scd_preset(cls) -> str:
        """See `PruningTrainer.scd_preset`."""
        return cls.scd_size


class nnUNetTrainerSCD_small(nnUNetTrainerSCD):
    """SCD-UNETR of the small size."""

    scd_size = "small"


class nnUNetTrainerSCD_large(nnUNetTrainerSCD):
    """SCD-UNETR of the large size."""

    scd_size = "large"


class nnUNetTrainerSCD_early(nnUNetTrainerSCD):
    """The base size with the published decoder, pruning from the first block on and a narrow completion."""

    scd_size = "base-early"


class nnUNetTrainerSCD_fast(nnUNetTrainerSCD_early):
    """The base size as fast as it gets: the same with the light decoder."""

    scd_size = "base-fast"


class nnUNetTrainerSCD_small_fast(nnUNetTrainerSCD_fast):
    """The small size as fast as it gets, for machines without a GPU."""

    scd_size = "small-fast"


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


TRAINERS = {name: value for name, value in globals().items() if name.startswith("nnUNetTrainerSCD")}
__all__ = [*TRAINERS]
