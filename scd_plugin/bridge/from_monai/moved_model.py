"""A model folder of nnU-Net, put together but not written yet."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scd_plugin.folders import CHECKPOINT, empty_folder
from scd_plugin.nnunet.planning.planned_network import trained_by
from scd_plugin.whole_files import whole_folder

__all__ = ["TRAINER", "Moved"]

TRAINER = "nnUNetTrainerSCD"
"""The trainer that builds whatever network of SCD the plans name."""


@dataclass(frozen=True)
class Moved:
    """Contents of a model folder."""

    plans: Mapping[str, Any]
    dataset: Mapping[str, Any]
    trainer_name: str
    configuration: str
    weights: Mapping[str, Mapping[str, Tensor]]
    """State dict of each fold."""
    mirror_axes: tuple[int, ...] | None
    notes: list[str] = field(default_factory=list)
    """Small differences between the hosts, one sentence each."""

    @property
    def name(self) -> str:
        """Folder name by which nnU-Net's commands find the model in nnUNet_results."""
        return f"{self.trainer_name}__{self.plans['plans_name']}__{self.configuration}"

    def write(self, folder: str | Path) -> Path:
        """Write the files.

        Raises:
            ValueError: if the folder is not empty.
            OSError: as `whole_folder`.
        """
        place = empty_folder(folder)
        with whole_folder(place) as root:
            plans = trained_by(self.plans, self.configuration, self.trainer_name)
            (root / "plans.json").write_text(json.dumps(plans, indent=4) + "\n")
            (root / "dataset.json").write_text(json.dumps(self.dataset, indent=4) + "\n")
            for fold, weights in self.weights.items():
                # what nnU-Net's prediction reads; the rest of a checkpoint describes a training, and there was none
                checkpoint = {
                    "network_weights": dict(weights),
                    "trainer_name": self.trainer_name,
                    "init_args": {"configuration": self.configuration, "fold": fold},
                    "inference_allowed_mirroring_axes": self.mirror_axes,
                }
                (root / f"fold_{fold}").mkdir()
                with (root / f"fold_{fold}" / CHECKPOINT).open("wb") as file:
                    torch.save(checkpoint, file)
        return place
