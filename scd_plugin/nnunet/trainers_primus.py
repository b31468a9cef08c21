"""nnU-Net trainers that train `SCDPrimus`: four sizes of three versions, named as nnU-Net names those of Primus."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from scd_plugin.networks import SCDPrimus
from scd_plugin.nnunet.plans import primus_arguments
from scd_plugin.nnunet.trainer_base import SCDTrainer

__all__ = [
    "SCDPrimusTrainer",
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


class SCDPrimusTrainer(SCDTrainer):
    """Any size and version of SCD-Primus; optimiser, schedule and stochastic depth are those of nnU-Net's Primus."""

    scd_version = 1
    """Primus's version: 1, 2 or 3."""
    scd_size = "M"
    """Primus's size: S, B, M or L."""
    scd_prior: str | None = "entropy"
    """Score that the learned one is added to, see `scd_plugin.networks.priors`; None for none."""
    scd_prune_after: Sequence[int] | None = None
    """1-based blocks after which tokens leave; None for one stage, after a sixth of the depth."""
    scd_completion = "assembly"
    """What completes the sequence before the decoder: MTA, or its cheaper form "assembly_to_kept"; see `SCDPrimus`."""
    scd_completion_hidden_size: int | None = None
    """Width inside the completion, a multiple of the network's heads; None for the width of the tokens."""
    scd_patch_size: int | None = None
    """Edge of a token in voxels on every axis; None for one per axis from the plans. Stock Primus always has 8."""

    @classmethod
    def build_network_architecture(  # a class method, so that subclasses are nothing but settings
        cls,
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> SCDPrimus:
        """The network for a configuration of the plans; nnU-Net calls this at training and at prediction.

        Raises:
            ValueError: if deep supervision is asked for: Primus's decoder has one output.
        """
        if cls.scd_deep_supervision:
            msg = "scd_deep_supervision must be False for Primus, whose decoder has one output; got True"
            raise ValueError(msg)
        return SCDPrimus(
            in_channels=num_input_channels,
            out_channels=num_output_channels,
            version=cls.scd_version,
            size=cls.scd_size,
            prune_after=cls.scd_prune_after,
            keep_ratio=cls.scd_keep_ratio,
            prior=cls.scd_prior,
            completion=cls.scd_completion,
            completion_hidden_size=cls.scd_completion_hidden_size,
            drop_path_rate=0.2,
            **primus_arguments(configuration_manager.configuration, patch_size=cls.scd_patch_size),
        )


def _trainer(version: int, size: str) -> type[SCDPrimusTrainer]:
    name = f"nnUNetTrainerSCDPrimus{'' if version == 1 else f'V{version}'}{size}"
    settings: dict[str, Any] = {
        "__module__": __name__,
        "__doc__": f"SCD-Primus, version {version}, size {size}.",
        "scd_version": version,
        "scd_size": size,
    }
    return type(name, (SCDPrimusTrainer,), settings)


nnUNetTrainerSCDPrimusS = _trainer(1, "S")
nnUNetTrainerSCDPrimusB = _trainer(1, "B")
nnUNetTrainerSCDPrimusM = _trainer(1, "M")
nnUNetTrainerSCDPrimusL = _trainer(1, "L")
nnUNetTrainerSCDPrimusV2S = _trainer(2, "S")
nnUNetTrainerSCDPrimusV2B = _trainer(2, "B")
nnUNetTrainerSCDPrimusV2M = _trainer(2, "M")
nnUNetTrainerSCDPrimusV2L = _trainer(2, "L")
nnUNetTrainerSCDPrimusV3S = _trainer(3, "S")
nnUNetTrainerSCDPrimusV3B = _trainer(3, "B")
nnUNetTrainerSCDPrimusV3M = _trainer(3, "M")
nnUNetTrainerSCDPrimusV3L = _trainer(3, "L")
