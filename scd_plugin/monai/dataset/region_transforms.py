"""Regions that overlap, as nnU-Net's dataset.json names them: label files to one channel each, and back."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from torch import Tensor

__all__ = ["LabelsToRegionsd", "RegionsToLabelsd", "labels_to_regions", "regions_to_labels"]


def labels_to_regions(label: Tensor, regions: Sequence[Sequence[int]]) -> Tensor:
    """Make one binary channel for each region.

    Args:
        label: (1, *size), whole numbers.
        regions: for each region the label values that it is made of.

    Returns:
        (regions, *size), same type as `label`, 0 or 1.
    """
    channels = [torch.isin(label[0], torch.tensor(list(values), device=label.device)) for values in regions]
    return torch.stack(channels).to(label.dtype)


def regions_to_labels(regions: Tensor, values: Sequence[int], painting: Sequence[int] | None = None) -> Tensor:
    """Make a label map of binary regions, painted one over the other as nnU-Net does.

    Args:
        regions: (regions, *size), 0 or 1.
        values: value that each region is painted with.
        painting: order of the channels, later ones cover earlier ones; None for the order that they have.

    Returns:
        (1, *size), same type as `regions`.
    """
    label = torch.zeros_like(regions[:1])
    for channel in range(len(values)) if painting is None else painting:
        label[0][regions[channel] > 0] = values[channel]
    return label


class _OnTensors(MapTransform):
    """Apply `self.convert` to each key's tensor, and keep its geometry."""

    def convert(self, tensor: Tensor) -> Tensor:
        raise NotImplementedError

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            tensor = result[key]
            if isinstance(tensor, MetaTensor):
                converted = MetaTensor(
                    self.convert(tensor.as_tensor()), meta=tensor.meta, applied_operations=tensor.applied_operations
                )
            else:
                converted = self.convert(torch.as_tensor(tensor))
            result[key] = converted
        return result


class LabelsToRegionsd(_OnTensors):
    """Make one binary channel for each region, see `labels_to_regions`.

    Args:
        keys: labels of the data dictionary.
        regions: for each region its label values.
        allow_missing_keys: as in MONAI.
    """

    def __init__(
        self, keys: KeysCollection, regions: Sequence[Sequence[int]], allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.regions = [list(values) for values in regions]

    def convert(self, tensor: Tensor) -> Tensor:
        """(1, *size) -> (regions, *size)."""
        return labels_to_regions(tensor, self.regions)


class RegionsToLabelsd(_OnTensors):
    """Make a label map of binary regions, see `regions_to_labels`.

    Args:
        keys: predictions of the data dictionary.
        values: value of each region.
        painting: order of painting.
        allow_missing_keys: as in MONAI.
    """

    def __init__(
        self,
        keys: KeysCollection,
        values: Sequence[int],
        painting: Sequence[int] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.values = list(values)
        self.painting = painting

    def convert(self, tensor: Tensor) -> Tensor:
        """(regions, *size) -> (1, *size)."""
        return regions_to_labels(tensor, self.values, self.painting)
