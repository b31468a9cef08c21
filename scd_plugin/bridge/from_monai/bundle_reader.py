"""A MONAI bundle as it would run: its network's arguments, weights, transforms and window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from torch import Tensor

from scd_plugin.bridge.from_monai.components import components_for
from scd_plugin.bridge.from_monai.preprocessing import Component
from scd_plugin.bridge.movable_network import MovableNetwork, flat_weights
from scd_plugin.folders import bundle_config, read_json
from scd_plugin.monai.bundle_configs import check_readable, set_own_keep_ratio
from scd_plugin.networks import SCDNetwork
from scd_plugin.nnunet.model.checkpoint import read_checkpoint

__all__ = ["Bundle", "read_weights"]

# where training programs keep a state dict inside their checkpoints
_ENTRIES = ("model", "state_dict", "network_weights")


@dataclass(frozen=True)
class Bundle:
    """All that is taken from a bundle."""

    root: Path
    network: MovableNetwork
    preprocessing: list[Component]
    """Transforms of `image`."""
    postprocessing: list[Component]
    """Transforms of `pred`."""
    inferer: Any
    channel_names: dict[str, str]
    output_names: dict[str, str]
    dataset: dict[str, Any]
    """Labels and regions as its training recorded them; empty where it did not."""

    @property
    def from_nnunet(self) -> bool:
        """Whether the bundle preprocesses as nnU-Net does, by `NnunetPreprocessd`."""
        return any(one.name == "NnunetPreprocessd" for one in self.preprocessing)

    @classmethod
    def read(cls, folder: str | Path) -> Bundle:
        """Read `configs/inference.json` (or .yaml) and `configs/metadata.json` of a bundle.

        Like `monai.bundle run`, this evaluates its expressions.

        Raises:
            ValueError: if a file or one of the ids is missing, or the network is none of SCD's.
        """
        root = Path(folder).expanduser()
        config = bundle_config(root)
        check_readable(config)
        parser = ConfigParser()
        parser.read_config(str(config))
        needed = ("network_def", "preprocessing", "postprocessing", "inferer")
        if missing := [name for name in needed if name not in parser.get()]:
            msg = f"{config} has no {', '.join(missing)}"
            raise ValueError(msg)
        parser["bundle_root"] = str(root.resolve())
        parser.parse()
        metadata = read_json(root / "configs" / "metadata.json")
        meta = metadata.get("network_data_format", {})
        with torch.device("meta"):
            built = _built(parser, "network_def", config)
            if isinstance(built, SCDNetwork):
                set_own_keep_ratio(parser, built)
            network = MovableNetwork(built, f"network_def in {config}")
        return cls(
            root=root,
            network=network,
            preprocessing=components_for("image", _built(parser, "preprocessing", config)),
            postprocessing=components_for("pred", _built(parser, "postprocessing", config)),
            inferer=_built(parser, "inferer", config),
            channel_names=_channels(meta, "inputs", "image"),
            output_names=_channels(meta, "outputs", "pred"),
            dataset=metadata.get("dataset", {}),
        )


def _built(parser: ConfigParser, name: str, config: Path) -> Any:
    """Build the object that a part of the config describes."""
    try:
        return parser.get_parsed_content(name)
    except (ImportError, KeyError, RuntimeError, TypeError) as error:
        # MONAI wraps what went wrong once for each level of the config
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        msg = f"{name} in {config} can't be built: {(str(cause).splitlines() or [type(cause).__name__])[0]}"
        raise ValueError(msg) from None


def _channels(meta: Mapping[str, Any], part: str, tensor: str) -> dict[str, str]:
    named = meta.get(part, {}).get(tensor, {}).get("channel_def", {})
    return {str(number): str(name) for number, name in named.items()}


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict, flat or inside a checkpoint, from a file written by `torch.save`.

    Nothing but tensors and numbers is unpickled.

    Raises:
        ValueError: if the file is missing, damaged, holds more than that, or holds no state dict.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        msg = f"{file} is missing, so there are no weights"
        raise ValueError(msg)
    content = read_checkpoint(str(file), needs=())
    for name in _ENTRIES:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = dict(content[name])
    if not isinstance(content, Mapping) or not content or not all(isinstance(one, Tensor) for one in content.values()):
        msg = f"{file} holds no state dict, neither flat nor under {', '.join(_ENTRIES)}"
        raise ValueError(msg)
    return flat_weights(dict(content))
