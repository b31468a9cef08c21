"""Regions to channels and back."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from scd_plugin.monai import LabelsToRegionsd, RegionsToLabelsd
from scd_plugin.monai.dataset.region_transforms import labels_to_regions, regions_to_labels

LABEL = torch.tensor([[[0, 1], [2, 3]]]).float()
# tumour core, whole tumour, enhancing tumour
REGIONS = [[2, 3], [1, 2, 3], [3]]


def test_labels_to_regions() -> None:
    assert labels_to_regions(LABEL, REGIONS).tolist() == [[[0, 0], [1, 1]], [[0, 1], [1, 1]], [[0, 0], [0, 1]]]


def test_round_trip_with_an_order_of_painting() -> None:
    regions = labels_to_regions(LABEL, REGIONS)
    assert torch.equal(regions_to_labels(regions, [2, 1, 3], [1, 0, 2]), LABEL)
    # the whole tumour painted last covers the core
    assert regions_to_labels(regions, [2, 1, 3]).tolist() == [[[0, 1], [1, 3]]]


@pytest.mark.parametrize("meta", [True, False], ids=["MetaTensor", "Tensor"])
def test_dictionary_transforms_keep_geometry(meta: bool) -> None:
    affine = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0]))
    label = MetaTensor(LABEL, affine=affine) if meta else LABEL
    regions = LabelsToRegionsd("label", REGIONS)({"label": label, "other": 1})
    assert regions["other"] == 1
    assert regions["label"].shape == (3, 2, 2)
    back = RegionsToLabelsd("label", [2, 1, 3], [1, 0, 2])(regions)["label"]
    assert torch.equal(torch.as_tensor(back), LABEL)
    assert isinstance(back, MetaTensor) == meta
    if meta:
        assert torch.equal(back.affine, affine.double())
