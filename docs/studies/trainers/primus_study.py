"""Trainers of the study in ../primus_hippocampus.py: a small Primus, and the same pruned."""

from __future__ import annotations

from typing import Any

import torch
from dynamic_network_architectures.architectures.primus import Primus

from scd_plugin import SCDPrimus
from scd_plugin.nnunet.trainer_base import SCDTrainer

# about half the width of Primus S, and tokens of 4 voxels, of which the hippocampus crop has 1400
WIDTH, DEPTH, HEADS, PATCH = 192, 12, 4, 4
STEPS_PER_EPOCH = 30


class _Study(SCDTrainer):
    """Primus's optimiser and schedule, cut short for a CPU."""

    scd_num_epochs = 24

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.configuration_manager.configuration["batch_size"] = 2
        self.num_iterations_per_epoch = STEPS_PER_EPOCH
        self.num_val_iterations_per_epoch = 10
        # 3e-4 is for a thousand epochs of 250 steps
        self.initial_lr = 1e-3


class nnUNetTrainerStudyPrimus(_Study):
    """Stock Primus."""

    @staticmethod
    def build_network_architecture(
        plans_manager: Any,
        configuration_manager: Any,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> Primus:
        """As nnU-Net's own Primus trainers build it."""
        return Primus(
            num_input_channels,
            WIDTH,
            (PATCH,) * 3,
            num_output_channels,
            DEPTH,
            HEADS,
            tuple(configuration_manager.patch_size),
            drop_path_rate=0.2,
            scale_attn_inner=True,
            init_values=0.1,
        )


class nnUNetTrainerStudyKeep50(_Study):
    """SCD-Primus that keeps half of the tokens."""

    scd_keep_ratio = 0.5
    completion = "assembly"

    @classmethod
    def build_network_architecture(
        cls,
        plans_manager: Any,
        configuration_manager: Any,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> SCDPrimus:
        """The same with pruning."""
        return SCDPrimus(
            num_input_channels,
            num_output_channels,
            configuration_manager.patch_size,
            patch_size=PATCH,
            hidden_size=WIDTH,
            num_layers=DEPTH,
            num_heads=HEADS,
            keep_ratio=cls.scd_keep_ratio,
            completion=cls.completion,
            drop_path_rate=0.2,
        )


class nnUNetTrainerStudyKeep25(nnUNetTrainerStudyKeep50):
    """A quarter."""

    scd_keep_ratio = 0.25


class nnUNetTrainerStudyMask25(nnUNetTrainerStudyKeep25):
    """The paper's negative control: a learned token takes the place of the pruned ones."""

    completion = "mask_token"
