"""nnU-Net's trainers of SCD: those that train `SCDUNETR`, and beside them those of `SCDPrimus` from `trainers_primus`.

nnU-Net finds all of them by name in this module. Every setting is a class attribute, see `trainer_base`.
"""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from scd_plugin.blocks.decoders import num_taps
from scd_plugin.networks import SCDUNETR
from scd_plugin.networks.presets import FAST_KEEP_RATIO
from scd_plugin.nnunet.plans import network_arguments
from scd_plugin.nnunet.trainer_base import SCDTrainer
from scd_plugin.nnunet.trainers_primus import nnUNetTrainerSCDPrimusB as nnUNetTrainerSCDPrimusB
from scd_plugin.nnunet.trainers_primus import nnUNetTrainerSCDPrimusL as nnUNetTrainerSCDPrimusL
from scd_plugin.nnunet.trainers_primus import nnUNetTrainerSCDPrimusM as nnUNetTrainerSCDPrimusM
from scd_plugin.nnunet.trainers_primus import nnUNetTrainerSCDPrimusS as nnUNetTrainerSCDPrimusS
from scd_plugin.nnunet.trainers_primus import nnUNetTrainerSCDPrimusV2B as nnUNetTrainerSCDPrimusV2B
from scd_plugin.nnunet.trainers_primus import nnUNetTrainerSCDPrimusV2L as nnUNetTrainerSCDPrimusV2L
from scd_plugin.nnunet.trainers_primus import nnUNetTrainerSCDPrimusV2M as nnUNetTrainerSCDPrimusV2M
from scd_plugin.nnunet.trainers_primus import nnUNetTrainerSCDPrimusV2S as nnUNetTrainerSCDPrimusV2S
from scd_plugin.nnunet.trainers_primus import nnUNetTrainerSCDPrimusV3B as nnUNetTrainerSCDPrimusV3B
from scd_plugin.nnunet.trainers_primus import nnUNetTrainerSCDPrimusV3L as nnUNetTrainerSCDPrimusV3L
from scd_plugin.nnunet.trainers_primus import nnUNetTrainerSCDPrimusV3M as nnUNetTrainerSCDPrimusV3M
from scd_plugin.nnunet.trainers_primus import nnUNetTrainerSCDPrimusV3S as nnUNetTrainerSCDPrimusV3S

__all__ = [
    "nnUNetTrainerSCD",
    "nnUNetTrainerSCD_5epochs",
    "nnUNetTrainerSCD_50epochs",
    "nnUNetTrainerSCD_100epochs",
    "nnUNetTrainerSCD_250epochs",
    "nnUNetTrainerSCD_deepsupervision",
    "nnUNetTrainerSCD_demo",
    "nnUNetTrainerSCD_dense",
    "nnUNetTrainerSCD_early",
    "nnUNetTrainerSCD_fast",
    "nnUNetTrainerSCD_large",
    "nnUNetTrainerSCD_small",
    "nnUNetTrainerSCD_small_fast",
    "nnUNetTrainerSCDPrimusS",
    "nnUNetTrainerSCDPrimusB",
    "nnUNetTrainerSCDPrimusM",
    "nnUNetTrainerSCDPrimusL",
    "nnUNetTrainerSCDPrimusV2S",
    "nnUNetTrainerSCDPrimusV2B",
    "nnUNetTrainerSCDPrimusV2M",
    "nnUNetTrainerSCDPrimusV2L",
    "nnUNetTrainerSCDPrimusV3S",
    "nnUNetTrainerSCDPrimusV3B",
    "nnUNetTrainerSCDPrimusV3M",
    "nnUNetTrainerSCDPrimusV3L",
]


class nnUNetTrainerSCD(SCDTrainer):
    """SCD-UNETR of the base size, trained as nnU-Net trains its own transformers."""

    scd_size = "base"
    """Network size, see `scd_plugin.networks.presets`."""

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

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """As in nnU-Net's default trainer; the Primus trainers have none."""
        nnUNetTrainer.set_deep_supervision_enabled(self, enabled)

    def _get_deep_supervision_scales(self) -> list[list[float]] | None:
        """Those of our decoder's levels; nnU-Net's go down to a bottleneck that tokens may not reach, or pass."""
        if not self.enable_deep_supervision:
            return None
        arguments = network_arguments(self.configuration_manager.configuration, size=self.scd_size)
        strides = arguments["strides"]
        light = arguments.get("decoder") == "light"
        levels = len(strides) if light else num_taps(strides, arguments["pool_stride"])
        if levels < 2:
            msg = (
                "deep supervision needs a decoder of two levels or more; with tokens of "
                f"{arguments['patch_size']} voxels the light one has a single level. Set scd_deep_supervision to False"
            )
            raise ValueError(msg)
        return [
            [1 / prod(step[axis] for step in strides[:level]) for axis in range(len(strides[0]))]
            for level in range(levels)
        ]


class nnUNetTrainerSCD_small(nnUNetTrainerSCD):
    """SCD-UNETR of the small size."""

    scd_size = "small"


class nnUNetTrainerSCD_large(nnUNetTrainerSCD):
    """SCD-UNETR of the large size."""

    scd_size = "large"


class nnUNetTrainerSCD_early(nnUNetTrainerSCD):
    """The base size with the published decoder, pruning from the first block on and a narrow completion."""

    scd_size = "base-early"
    scd_keep_ratio = FAST_KEEP_RATIO


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
