"""nnU-Net trainers that train `SCDPrimus`: four sizes of three versions, named as nnU-Net names those of Primus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scd_plugin.networks.presets import get_preset, primus_preset
from scd_plugin.networks.scd_primus import PRIMUS_SIZES
from scd_plugin.nnunet.planning.planned_network import planned_network
from scd_plugin.nnunet.planning.token_sizes import token_geometry
from scd_plugin.nnunet.trainers.base import PruningTrainer
from scd_plugin.nnunet.trainers.contradictions import refuse_contradiction

__all__ = ["TRAINERS", "PrunedPrimusTrainer"]


class PrunedPrimusTrainer(PruningTrainer):
    """Any size and version of SCD-Primus; optimiser, schedule and stochastic depth are those of nnU-Net's Primus."""

    scd_settings_are_defaults = True
    scd_version = 1
    """Primus's version, 1, 2 or 3."""
    scd_size = "M"
    """Primus's size, S, B, M or L."""
    scd_prior: str | None = "entropy"
    """Score that the learned one is added to, see `scd_plugin.networks.priors`; None for none."""
    scd_prune_after: Sequence[int] | None = None
    """1-based blocks after which tokens leave; None for one stage, after a sixth of the depth."""
    scd_completion = "assembly"
    """What completes the sequence before the decoder, MTA, or its cheaper form "assembly_to_kept"; see `SCDPrimus`."""
    scd_completion_hidden_size: int | None = None
    """Width inside the completion, a multiple of the network's heads; None for the width of the tokens."""
    scd_patch_size: int | None = None
    """Edge of a token in voxels on every axis; None for one per axis from the plans. Stock Primus always has 8."""

    @classmethod
    def scd_preset(cls) -> str:
        return primus_preset(cls.scd_version, cls.scd_size)

    @classmethod
    def scd_changes(cls) -> dict[str, Any]:
        names = ("prior", "prune_after", "completion", "completion_hidden_size")
        preset = get_preset(cls.scd_preset()).arguments
        given = {name: getattr(cls, f"scd_{name}") for name in names}
        return {**super().scd_changes(), **{name: value for name, value in given.items() if value != preset[name]}}

    @classmethod
    def scd_geometry(cls, configuration: Mapping[str, Any]) -> dict[str, Any]:
        """Crop and token size of the network; `scd_patch_size` goes before the plans' token size."""
        return token_geometry(configuration, patch_size=cls.scd_patch_size)

    def initialize(self) -> None:
        # not at prediction: older versions trained what the plans say, whatever the token size here
        planned = planned_network(self.configuration_manager.configuration)
        if planned is not None and self.scd_patch_size is not None:
            changes = {"patch_size": self.scd_patch_size}
            refuse_contradiction(type(self).__name__, planned, preset=None, changes=changes)
        super().initialize()


def _trainer(version: int, size: str) -> type[PrunedPrimusTrainer]:
    name = f"nnUNetTrainerSCDPrimus{'' if version == 1 else f'V{version}'}{size}"
    members = {"__module__": __name__, "__doc__": f"SCD-Primus, version {version}, size {size}."}
    return type(name, (PrunedPrimusTrainer,), {**members, "scd_version": version, "scd_size": size})


TRAINERS = {
    trainer.__name__: trainer for trainer in (_trainer(version, size) for version in (1, 2, 3) for size in PRIMUS_SIZES)
}
# so that they can be pickled
globals().update(TRAINERS)
