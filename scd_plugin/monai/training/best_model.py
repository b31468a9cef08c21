"""Keep the best network of a training, together with all that inference must know about it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.handlers import CheckpointLoader
from torch import nn

from scd_plugin.monai.dataset.describe import intensity_config

__all__ = ["BestModel", "last_checkpoint", "need_weights", "record", "recorded"]

_LOGGER = logging.getLogger(__name__)


class BestModel:
    """Handler for a validation engine: after each validation that is the best so far, write the bundle's model.

    MONAI's `CheckpointSaver` would do for the weights. But it forgets the best value when a training is resumed, and
    weights alone do not tell settings that leave no trace in them, as the keep ratio.

    Writes models/model.pt (flat state dict), models/best.json (metric, epoch) and, where they differ from what the
    configs hold, the network's settings and the data set's description into configs/inference.json and
    configs/metadata.json.

    Args:
        network: its state dict is saved.
        bundle_root: the bundle's folder.
        network_def: the same network without wrapper; its `arguments` are recorded.
        description: see `scd_plugin.monai.dataset.describe`; None where it never changes.
        resume: go on from models/best.json instead of starting anew.
    """

    def __init__(
        self,
        network: nn.Module,
        bundle_root: str,
        network_def: nn.Module,
        description: Mapping[str, Any] | None = None,
        resume: bool = False,
    ) -> None:
        self.network = network
        self.bundle_root = Path(bundle_root)
        self.arguments: dict[str, Any] = dict(network_def.arguments)  # type: ignore[arg-type]
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
        inner = self.network.module if hasattr(self.network, "module") else self.network
        partial = models / "model.pt.partial"
        torch.save(inner.state_dict(), partial)  # type: ignore[union-attr]
        partial.replace(models / "model.pt")
        record(self.bundle_root, self.arguments, self.description)
        best = {"metric": name, "value": value, "epoch": engine.state.epoch}
        (models / "best.json").write_text(json.dumps(best, indent=4) + "\n", encoding="utf-8")
        _LOGGER.info("best %s so far, %.4f, saved to %s", name, value, models / "model.pt")


def record(bundle_root: Path, arguments: Mapping[str, Any], description: Mapping[str, Any] | None) -> None:
    """Make a bundle's inference.json and metadata.json say what its weights are. Files that say so are left alone.

    Args:
        bundle_root: the bundle's folder.
        arguments: of the network.
        description: of the data set.
    """
    inference_file = bundle_root / "configs" / "inference.json"
    inference = json.loads(inference_file.read_text(encoding="utf-8"))
    target = inference["network_def"]["_target_"]
    given: dict[str, Any] = json.loads(json.dumps(arguments))
    known = set(inference["network_def"]) - {"_target_"}
    # what the file does not name stays at its default, unless it was changed
    defaults = _defaults(target)
    inference["network_def"] = {"_target_": target} | {
        name: value for name, value in given.items() if name in known or value != defaults.get(name)
    }
    if description is not None:
        for key in ("spacing", "label_values", "regions_order"):
            inference[key] = description[key]
        inference["intensity"] = intensity_config(description["ct_windows"])
    inference["img_size"] = given["img_size"]
    _write_if_changed(inference_file, inference)

    metadata_file = bundle_root / "configs" / "metadata.json"
    metadata = json.loads(metadata_file.read_text(encoding="utf-8"))
    formats = metadata["network_data_format"]
    size = given["img_size"] if isinstance(given["img_size"], list) else [given["img_size"]] * 3
    formats["inputs"]["image"].update(num_channels=given["in_channels"], spatial_shape=size)
    formats["outputs"]["pred"].update(num_channels=given["out_channels"], spatial_shape=size)
    if description is not None:
        metadata["dataset"] = dict(description)
        formats["inputs"]["image"]["channel_def"] = _numbered(description["channel_names"])
        classes = list(description["labels"])
        formats["outputs"]["pred"]["channel_def"] = _numbered(
            classes if description["regions_order"] else ["background", *classes]
        )
    _write_if_changed(metadata_file, metadata)


def recorded(bundle_root: str, key: str) -> Any:
    """An entry of the bundle's inference.json, as the last training left it."""
    return json.loads((Path(bundle_root) / "configs" / "inference.json").read_text(encoding="utf-8"))[key]


def last_checkpoint(ckpt_dir: str) -> str:
    """The newest checkpoint that a training can go on from.

    Args:
        ckpt_dir: folder of `CheckpointSaver`'s files, named `last_..._epoch=N.pt`.

    Raises:
        ValueError: if there is none.
    """
    files = sorted(Path(ckpt_dir).glob("last_*.pt"), key=lambda file: file.stat().st_mtime)
    if not files:
        msg = f"there is no checkpoint to resume from in {ckpt_dir}: start without --resume True"
        raise ValueError(msg)
    return str(files[-1])


def need_weights(handlers: Sequence[Any]) -> None:
    """Refuse to run an engine whose weights are not there, before it looks at any image.

    Args:
        handlers: of the engine.

    Raises:
        ValueError: if a `CheckpointLoader` among them has no file to load.
    """
    for handler in handlers:
        if isinstance(handler, CheckpointLoader) and not Path(handler.load_path).is_file():
            msg = f"there are no weights in {handler.load_path}: train the bundle first, or copy a state dict there"
            raise ValueError(msg)


def _numbered(names: list[str]) -> dict[str, str]:
    return {str(number): name for number, name in enumerate(names)}


def _defaults(target: str) -> dict[str, Any]:
    import inspect

    from monai.utils import optional_import

    module, _, name = target.rpartition(".")
    network, _ = optional_import(module, name=name)
    parameters = inspect.signature(network).parameters.values()
    return {p.name: json.loads(json.dumps(p.default)) for p in parameters if p.default is not p.empty}


def _write_if_changed(file: Path, content: Mapping[str, Any]) -> None:
    if json.loads(file.read_text(encoding="utf-8")) != content:
        file.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")
