"""Weights in a bundle's folder: the best of a training."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events

from scd_plugin.monai.training.record import network_config, record
from scd_plugin.networks import SCDNetwork
from scd_plugin.whole_files import write_json, write_whole

__all__ = ["BestModel"]

_LOGGER = logging.getLogger(__name__)


class BestModel:
    """Handler for a validation engine: after each validation that is the best so far, write the bundle's model.

    MONAI's `CheckpointSaver` would do for the weights. But it forgets the best value when a training is resumed, and
    weights alone do not tell settings that leave no trace in them, as the keep ratio.

    Writes models/model.pt (flat state dict), models/best.json (metric, epoch, preset) and, where they differ from what
    the configs hold, the network's settings and the data set's description into configs/inference.json and
    configs/metadata.json.

    Args:
        network: without a wrapper, such as that for several processes.
        bundle_root: the bundle's folder.
        description: see `scd_plugin.monai.dataset.describe`; None where it never changes.
        resume: go on from models/best.json instead of starting anew.

    Raises:
        ValueError: as `network_config`.
        OSError: as `write_whole`, when called.
    """

    def __init__(
        self,
        network: SCDNetwork,
        bundle_root: str,
        description: Mapping[str, Any] | None = None,
        resume: bool = False,
    ) -> None:
        # what can't be recorded is refused before the first step
        network_config(network)
        self.network = network
        self.bundle_root = Path(bundle_root)
        self.description = description
        self.best = float("-inf")
        file = self.bundle_root / "models" / "best.json"
        if resume and file.is_file():
            self.best = json.loads(file.read_text(encoding="utf-8"))["value"]

    def attach(self, engine: Engine) -> None:
        """Called by ignite."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Called when a validation has ended."""
        name = engine.state.key_metric_name
        value = float(engine.state.metrics[name])
        if not value > self.best:
            return
        self.best = value
        models = self.bundle_root / "models"
        models.mkdir(exist_ok=True)
        write_whole(models / "model.pt", lambda stream: torch.save(self.network.state_dict(), stream))
        record(self.bundle_root, self.network, self.description)
        best = {"metric": name, "value": value, "epoch": engine.state.epoch, "preset": self.network.preset}
        write_json(models / "best.json", best)
        _LOGGER.info("best %s so far, %.4f, saved to %s", name, value, models / "model.pt")
