"""What a bundle's weights are, written into its configs and read from them: inference then needs no training config."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from scd_plugin.monai.dataset.describe import intensity_config
from scd_plugin.networks import SCDNetwork
from scd_plugin.networks.builder import NETWORKS, changes_in_words, complete_arguments, plain_value
from scd_plugin.whole_files import write_json

__all__ = ["config_file", "default_size", "network_config", "record", "recorded"]


def network_config(network: SCDNetwork) -> dict[str, Any]:
    """Write the config that builds a network again: its class and every argument, those left at their defaults too.

    Raises:
        ValueError: if it is no network of SCD, or JSON can't hold an argument.
    """
    cls = type(network)
    if not isinstance(network, SCDNetwork):
        msg = f"network_def must be a network of SCD, a scd_plugin.SCDNetwork, to be recorded; got {cls.__name__}"
        raise ValueError(msg)
    arguments = network.arguments
    described: dict[str, Any] = {"_target_": f"{cls.__module__}.{cls.__qualname__}"}
    if NETWORKS.get(cls.__name__) is cls:
        described["_target_"] = f"scd_plugin.{cls.__name__}"
        arguments = complete_arguments(cls.__name__, arguments)
    if network.preset is not None:
        changes = changes_in_words(network.preset, arguments)
        described["_desc_"] = f"preset {network.preset}{changes and f', {changes}'}"
    described |= {name: plain_value(value) for name, value in arguments.items()}
    try:
        json.dumps(described)
    except TypeError as error:
        msg = f"network_def must be built of numbers, names and lists of them, which a config can hold: {error}"
        raise ValueError(msg) from None
    return described


def config_file(bundle_root: Path, name: str) -> Path:
    """Find a config in a bundle's folder.

    Raises:
        ValueError: if it is not there, as where `--bundle_root` was forgotten.
    """
    file = bundle_root / "configs" / name
    if not file.is_file():
        msg = (
            f"bundle_root must be the folder of the bundle; {bundle_root.resolve()} has no configs/{name}: give it "
            "with --bundle_root"
        )
        raise ValueError(msg)
    return file


def record(
    bundle_root: Path,
    network: SCDNetwork,
    description: Mapping[str, Any] | None = None,
    spacing: Sequence[float] | None = None,
    intensity: Mapping[str, Any] | None = None,
) -> None:
    """Make a bundle's inference.json and metadata.json say what its weights are. Files that say so are left alone.

    Args:
        bundle_root: the bundle's folder.
        network: the one whose weights they are.
        description: of the data set; None where it never changes.
        spacing: mm, of the voxels that the network saw; None for the description's, or what the config says.
        intensity: config of the transform that normalised its images; None for the description's, see
            `intensity_config`.

    Raises:
        ValueError: as `config_file`.
    """
    if spacing is not None:
        spacing = [float(step) for step in spacing]
    channels, *size = network.image_shape
    inference_file = config_file(bundle_root, "inference.json")
    inference = json.loads(inference_file.read_text(encoding="utf-8"))
    inference |= {"network_def": network_config(network), "img_size": size}
    metadata_file = config_file(bundle_root, "metadata.json")
    metadata = json.loads(metadata_file.read_text(encoding="utf-8"))
    formats = metadata["network_data_format"]
    image, pred = formats["inputs"]["image"], formats["outputs"]["pred"]
    image.update(num_channels=channels, spatial_shape=size)
    pred.update(num_channels=network.out_channels, spatial_shape=size)
    if description is not None:
        description = {**description, "spacing": spacing or description["spacing"]}
        inference |= {key: description[key] for key in ("spacing", "label_values", "regions_order")}
        inference["intensity"] = intensity or intensity_config(description["ct_windows"])
        metadata["dataset"] = description
        classes = list(description["labels"])
        image["channel_def"] = _numbered(description["channel_names"])
        pred["channel_def"] = _numbered(classes if description["regions_order"] else ["background", *classes])
    elif spacing is not None:
        inference["spacing"] = spacing
    _write_if_changed(inference_file, inference)
    _write_if_changed(metadata_file, metadata)


def recorded(bundle_root: str, key: str) -> Any:
    """Read an entry of the bundle's inference.json, as the last training left it.

    Raises:
        ValueError: as `config_file`.
    """
    return json.loads(config_file(Path(bundle_root), "inference.json").read_text(encoding="utf-8"))[key]


def default_size(bundle_root: str, device: torch.device | str) -> str:
    """Name the preset to train: that of the weights that are there; else the base size, a small one on a CPU."""
    best = Path(bundle_root) / "models" / "best.json"
    if best.is_file() and (preset := json.loads(best.read_text(encoding="utf-8")).get("preset")):
        return str(preset)
    return "small-fast" if torch.device(device).type == "cpu" else "base"


def _numbered(names: list[str]) -> dict[str, str]:
    return {str(number): name for number, name in enumerate(names)}


def _write_if_changed(file: Path, content: Mapping[str, Any]) -> None:
    if json.loads(file.read_text(encoding="utf-8")) != content:
        write_json(file, content)
