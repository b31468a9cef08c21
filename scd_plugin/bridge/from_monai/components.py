"""MONAI's transform objects as names and plain arguments, so that the rest need not know how MONAI keeps them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from monai.transforms import Compose, ConcatItemsd, MapTransform, SplitDimd
from monai.transforms.utils import is_positive

from scd_plugin.bridge.from_monai.preprocessing import Component

__all__ = ["component_of", "components_for"]


def _first(value: Any) -> Any:
    """A setting that MONAI keeps once for each key, taken for the first of them."""
    return value[0] if isinstance(value, (list, tuple)) else value


def _of_attribute(name: str, *settings: str) -> Callable[[Any], dict[str, Any]]:
    """A reader of settings that a transform keeps in an attribute of its own."""
    return lambda transform: {setting: _plain(getattr(getattr(transform, name), setting)) for setting in settings}


_READ: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    "EnsureTyped": lambda transform: {"dtype": _first(transform.dtype) or "float32"},
    "CastToTyped": lambda transform: {"dtype": _first(transform.dtype)},
    "Orientationd": _of_attribute("ornt_transform", "axcodes", "as_closest_canonical"),
    "Spacingd": lambda transform: {
        "pixdim": _plain(transform.spacing_transform.pixdim),
        "mode": _first(transform.mode),
    },
    "ScaleIntensityRanged": _of_attribute("scaler", "a_min", "a_max", "b_min", "b_max", "clip"),
    "ScaleIntensityd": _of_attribute("scaler", "minv", "maxv", "factor", "channel_wise"),
    "NormalizeIntensityd": _of_attribute("normalizer", "subtrahend", "divisor", "nonzero", "channel_wise"),
    "CropForegroundd": lambda transform: {
        "select_fn": None if transform.cropper.select_fn is is_positive else transform.cropper.select_fn
    },
    "SpatialPadd": lambda transform: {
        "spatial_size": _plain(transform.padder.spatial_size),
        "mode": str(_first(transform.mode)),
        "value": transform.padder.kwargs.get("value", transform.padder.kwargs.get("constant_values", 0)),
    },
    "Activationsd": lambda transform: {name: _first(getattr(transform, name)) for name in ("sigmoid", "softmax")},
    "AsDiscreted": lambda transform: {
        name: _first(getattr(transform, name)) for name in ("argmax", "threshold", "to_onehot")
    },
    "RegionsToLabelsd": lambda transform: {"values": transform.values, "painting": transform.painting},
    "MapLabelValued": _of_attribute("mapper", "orig_labels", "target_labels"),
}


def component_of(transform: Any) -> Component:
    """Name of a transform, and those of its arguments that the translation to plans depends on."""
    name = type(transform).__name__
    return Component(name, _READ[name](transform) if name in _READ else {})


def components_for(key: str, transforms: Any) -> list[Component]:
    """Transforms of one entry of the data, in their order: those that name the key, or name none.

    Where channels are split, treated apart and put together again, those that treat them, each with its channel.
    `transforms` may be a MONAI transform, `Compose` or list of such.
    """
    found: list[Component] = []
    parts: dict[Hashable, int] = {}
    for one in _flat(transforms):
        if isinstance(one, SplitDimd) and key in one.keys and one.output_postfixes and one.splitter.dim == 0:
            parts = {f"{key}_{postfix}": channel for channel, postfix in enumerate(one.output_postfixes)}
        elif isinstance(one, ConcatItemsd) and one.name == key and list(one.keys) == list(parts):
            parts = {}
        elif not isinstance(one, MapTransform) or key in one.keys:
            found.append(component_of(one))
        else:
            found += [replace(component_of(one), channel=parts[part]) for part in one.keys if part in parts]
    # never put together again: what was done to the parts does not reach the network
    return [*found, Component("SplitDimd", {})] if parts else found


def _flat(transforms: Any) -> Iterable[Any]:
    if isinstance(transforms, Compose):
        transforms = transforms.transforms
    if not isinstance(transforms, Sequence):
        return [transforms]
    return [one for part in transforms for one in _flat(part)]


def _plain(value: Any) -> Any:
    """Turn arrays and tuples into lists."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    return list(value) if isinstance(value, tuple) else value
