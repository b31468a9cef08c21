"""Weights in a bundle's folder: the best of a training."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events

from scd_plugin.monai.dataset.trained_on import TRAINED_ON, case_names, seen_in_words
from scd_plugin.monai.training.record import config_file, network_config, record, recorded
from scd_plugin.networks import SCDNetwork
from scd_plugin.whole_files import write_json, write_whole

__all__ = ["BestModel"]

_LOGGER = logging.getLogger(__name__)


class BestModel:
    """Handler for a validation engine: after each validation that is the best so far, write the bundle's model.

    MONAI's `CheckpointSaver` would do for the weights. But it forgets the best value when a training is resumed, and
    weights alone do not tell settings that leave no trace in them, as the keep ratio.

    Writes models/model.pt (flat state dict), models/best.json (metric, epoch, preset), models/trained_on.json (fold,
    seed, names of the cases) and, where they differ from what the configs hold, the network's settings and the data
    set's description into configs/inference.json and configs/metadata.json. Its state, the best value, the cases so far
    and the keep ratio, belongs into the checkpoint: models/best.json may be of an earlier training.

    Args:
        network: without a wrapper, such as that for several processes.
        bundle_root: the bundle's folder.
        description: see `scd_plugin.monai.dataset.describe`; None where it never changes.
        resume: go on from models/best.json instead of starting anew, until the checkpoint's own state is loaded.
        spacing: see `record`.
        intensity: see `record`; a transform of the user's own, which no config can be made of, gets a line in the log.
        training: cases that are trained on.
        validation: those that are not.
        fold: by which they were told apart.
        seed: likewise.

    Raises:
        ValueError: as `network_config` and `config_file`.
        OSError: as `write_whole`, when called.
    """

    def __init__(
        self,
        network: SCDNetwork,
        bundle_root: str,
        description: Mapping[str, Any] | None = None,
        resume: bool = False,
        *,
        spacing: Sequence[float] | None = None,
        intensity: Mapping[str, Any] | Any = None,
        training: Sequence[Mapping[str, Any]] = (),
        validation: Sequence[Mapping[str, Any]] = (),
        fold: int = 0,
        seed: int = 0,
    ) -> None:
        # what can't be recorded is refused before the first step
        network_config(network)
        for name in ("inference.json", "metadata.json"):
            config_file(Path(bundle_root), name)
        self.network = network
        self.bundle_root = Path(bundle_root)
        self.description, self.spacing, self.intensity = description, spacing, intensity
        if intensity is not None and not isinstance(intensity, Mapping):
            _LOGGER.warning("intensity is a transform of your own: write the same into configs/inference.json")
            self.intensity = recorded(bundle_root, "intensity")
        self.validation = validation
        self.trained_on: dict[str, Any] = {"fold": fold, "seed": seed, "training": sorted(case_names(training))}
        self.best = float("-inf")
        file = self.bundle_root / "models" / "best.json"
        if resume and file.is_file():
            self.best = json.loads(file.read_text(encoding="utf-8"))["value"]

    def state_dict(self) -> dict[str, Any]:
        """Return what a training that goes on must know."""
        return {"value": self.best, "trained_on": self.trained_on, "keep_ratio": self._keep_ratio()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from the state of a checkpoint, at the keep ratio that it was trained with.

        Raises:
            ValueError: if a case to validate was trained on before.
        """
        before, own = state["trained_on"], set(self.trained_on["training"])
        # a split may validate what it trains on
        others = [name for name in before["training"] if name not in own]
        if seen := seen_in_words(self.validation, {"training": others}):
            msg = (
                f"{seen}, with --fold {before['fold']} and --seed {before['seed']}: go on with these and the same data "
                "set, or start without --resume True"
            )
            raise ValueError(msg)
        self.best = state["value"]
        training = sorted({*others, *own})
        self.trained_on = {**self.trained_on, "training": training}
        # weights do not tell, and checkpoints of earlier versions do not say it
        trained, asked = state.get("keep_ratio", self._keep_ratio()), self._keep_ratio()
        if trained != asked:
            _LOGGER.warning(
                "the checkpoint was trained with keep_ratio %s, which is %s in these settings; it stays at %s",
                *(trained, asked, trained),
            )
            self.network.set_keep_ratio(trained)

    def _keep_ratio(self) -> list[float]:
        return [stage.keep_ratio for stage in self.network.pruning_stages()]

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
        record(self.bundle_root, self.network, self.description, self.spacing, self.intensity)
        if self.trained_on["training"]:
            write_json(self.bundle_root / TRAINED_ON, self.trained_on)
        else:
            # configs of earlier versions do not say it, and what is there is of other weights
            (self.bundle_root / TRAINED_ON).unlink(missing_ok=True)
        best = {"metric": name, "value": value, "epoch": engine.state.epoch, "preset": self.network.preset}
        write_json(models / "best.json", best)
        _LOGGER.info("best %s so far, %.4f, saved to %s", name, value, models / "model.pt")
