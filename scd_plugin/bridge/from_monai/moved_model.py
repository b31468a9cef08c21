"""A model folder of nnU-Net, put together but not written yet."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scd_plugin.bridge.movable_network import MovableNetwork
from scd_plugin.folders import CHECKPOINT, empty_folder
from scd_plugin.nnunet.planning.planned_network import architecture_of
from scd_plugin.whole_files import whole_folder

__all__ = ["TRAINER", "Moved", "plans_with"]

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
            (root / "plans.json").write_text(json.dumps(self.plans, indent=4) + "\n")
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


def plans_with(plans: Mapping[str, Any], configuration: str, network: MovableNetwork) -> dict[str, Any]:
    """A copy of plans whose configuration names a network, all of its arguments included."""
    known = plans["configurations"]
    changed = {**known[configuration], "architecture": architecture_of(network.kind, network.arguments)}
    return {**plans, "configurations": {**known, configuration: changed}}
