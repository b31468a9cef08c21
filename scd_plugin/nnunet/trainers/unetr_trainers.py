"""nnU-Net's trainers of `SCDUNETR`; the first of them also trains whatever network of SCD the plans name."""

from __future__ import annotations

from typing import Any

from scd_plugin.nnunet.trainers.base import PruningTrainer


class nnUNetTrainerSCD(PruningTrainer):
    """Trains the network that the plans name, or SCD-UNETR of the base size where they name none."""

    scd_settings_are_defaults = True
    scd_size = "base"
    """A preset, which is a whole network, keep ratios included; see `scd_plugin.networks.presets`."""

    @classmethod
    def scd_preset(cls) -> str:
        return cls.scd_size


_VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "small": ("SCD-UNETR of the small size.", {"scd_size": "small"}),
    "large": ("SCD-UNETR of the large size.", {"scd_size": "large"}),
    "early": (
        "The base size with the published decoder, pruning from the first block on and a narrow completion.",
        {"scd_size": "base-early"},
    ),
    "fast": ("The base size as fast as it gets: as `early`, with the light decoder.", {"scd_size": "base-fast"}),
    "small_fast": ("The small size as fast as it gets, for machines without a GPU.", {"scd_size": "small-fast"}),
    "subvoxel": ("The base size as `fast`, with the sub-voxel decoder.", {"scd_size": "base-subvoxel"}),
    "small_subvoxel": ("The small size as `small_fast`, with the sub-voxel decoder.", {"scd_size": "small-subvoxel"}),
    "dense": (
        "The dense twin: the same network without pruning, the baseline for every comparison.",
        {"scd_keep_ratio": 1.0},
    ),
    "deepsupervision": ("SCD-UNETR with nnU-Net's deep supervision.", {"scd_deep_supervision": True}),
    **{
        f"{epochs}epochs": (f"A schedule of {epochs} epochs.", {"scd_num_epochs": epochs})
        for epochs in (5, 50, 100, 250)
    },
}


class nnUNetTrainerSCD_demo(nnUNetTrainerSCD):
    """For `make demo`: a tiny network and minutes of training on two CPU cores. Not for real data."""

    scd_size = "tiny"
    # within 20 one of six trainings did not find the smallest organ
    scd_num_epochs = 28
    scd_iterations_per_epoch = 18
    scd_val_iterations_per_epoch = 2
    # too much for a long schedule; within a few hundred steps only a large one gets anywhere
    scd_initial_lr = 1e-2


def _variant(suffix: str, description: str, settings: dict[str, Any]) -> type[nnUNetTrainerSCD]:
    members = {"__module__": __name__, "__doc__": description, **settings}
    return type(f"nnUNetTrainerSCD_{suffix}", (nnUNetTrainerSCD,), members)


TRAINERS: dict[str, type[nnUNetTrainerSCD]] = {
    "nnUNetTrainerSCD": nnUNetTrainerSCD,
    **{f"nnUNetTrainerSCD_{suffix}": _variant(suffix, *variant) for suffix, variant in _VARIANTS.items()},
    "nnUNetTrainerSCD_demo": nnUNetTrainerSCD_demo,
}
# so that they can be pickled
globals().update(TRAINERS)

__all__ = ["TRAINERS", *TRAINERS]
