"""What a deployment must know about a model that came from nnU-Net, read from the plans inside its bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["describe_plans", "single_network"]

_NUMBERS = ("mean", "std", "percentile_00_5", "percentile_99_5")
_RESAMPLING = ("resampling_fn_data", "resampling_fn_probabilities")


def single_network(inferer: Mapping[str, Any]) -> dict[str, Any]:
    """Describe the sliding window of `NnunetInferer`, without the files that it reads.

    Raises:
        ValueError: if it averages several networks, of which a file would hold the first alone.
    """
    if more := inferer.get("more_weights"):
        msg = (
            f"the bundle averages {1 + len(more)} folds, and an exported file holds one network: make a bundle of one "
            "fold (scd bridge to-monai --fold 0), or set inferer#more_weights in configs/inference.json to []"
        )
        raise ValueError(msg)
    return {name: value for name, value in inferer.items() if name not in ("recipe", "more_weights")}


def describe_plans(
    plans: Mapping[str, Any], configuration: Mapping[str, Any], dataset: Mapping[str, Any]
) -> dict[str, Any]:
    """Make the entries of a deployment's description that nnU-Net's plans hold.

    Args:
        plans: nnU-Net's plans.json.
        configuration: of these plans, inheritance resolved.
        dataset: nnU-Net's dataset.json.

    Returns:
        `axes` of the image as the network sees it, and in their order `spacing`; `orientation`, `intensity` for each
        channel, `activation`, `dataset`, and in `nnunet` what else the plans say of the way to the network and back.
    """
    names = dataset.get("channel_names") or dataset["modality"]
    regions = any(isinstance(value, Sequence) and len(value) > 1 for value in dataset["labels"].values())
    return {
        # a 2-D network sees the last two
        "axes": ["zyx"[axis] for axis in plans["transpose_forward"]][-len(configuration["spacing"]) :],
        "spacing": list(configuration["spacing"]),
        "orientation": "RAS" if plans["image_reader_writer"] == "NibabelIOWithReorient" else None,
        "intensity": [_intensity(plans, configuration, int(channel), name) for channel, name in names.items()],
        "activation": "sigmoid" if regions else "softmax",
        "dataset": {
            "channel_names": dict(names),
            "labels": dict(dataset["labels"]),
            "regions_class_order": list(dataset["regions_class_order"]) if regions else [],
        },
        "nnunet": {
            "image_reader_writer": plans["image_reader_writer"],
            "transpose_forward": list(plans["transpose_forward"]),
            "transpose_backward": list(plans["transpose_backward"]),
            "preprocessor_name": configuration["preprocessor_name"],
            **{name: [configuration[name], dict(configuration[f"{name}_kwargs"])] for name in _RESAMPLING},
        },
    }


def _intensity(plans: Mapping[str, Any], configuration: Mapping[str, Any], channel: int, name: str) -> dict[str, Any]:
    scheme = configuration["normalization_schemes"][channel]
    described = {"channel": name, "scheme": scheme, "use_mask": configuration["use_mask_for_norm"][channel]}
    if scheme == "CTNormalization":
        known = plans["foreground_intensity_properties_per_channel"][str(channel)]
        described |= {number: known[number] for number in _NUMBERS}
    return described
