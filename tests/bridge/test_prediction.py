from __future__ import annotations

from typing import Any

import monai.transforms as mt
import pytest

from scd_plugin.bridge.components import components_for
from scd_plugin.bridge.prediction import predicts_regions, window_notes
from scd_plugin.bridge.preprocessing import Component


class TestPredictsRegions:
    @pytest.mark.parametrize(
        ("transforms", "regions"),
        [
            ([mt.Activationsd("pred", softmax=True), mt.AsDiscreted("pred", argmax=True)], False),
            ([mt.Activationsd("pred", sigmoid=True), mt.AsDiscreted("pred", threshold=0.5)], True),
            ([mt.AsDiscreted("pred", threshold=0.5)], True),
            ([mt.SaveImaged("pred"), mt.EnsureTyped("pred")], False),
        ],
    )
    def test_kind(self, transforms: list[Any], regions: bool) -> None:
        assert predicts_regions(components_for("pred", transforms)) is regions

    def test_regions_painted_over_each_other(self) -> None:
        assert predicts_regions([Component("RegionsToLabelsd", {})])

    @pytest.mark.parametrize(
        ("transform", "message"),
        [
            (mt.KeepLargestConnectedComponentd("pred"), "KeepLargestConnectedComponentd can't be moved"),
            (mt.MapLabelValued("pred", [1], [5]), "postprocessing transform MapLabelValued can't be moved"),
            (mt.AsDiscreted("pred", threshold=0.3), "nnU-Net's threshold is 0.5; got 0.3"),
        ],
    )
    def test_refused(self, transform: Any, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            predicts_regions(components_for("pred", transform))


class TestWindowNotes:
    def test_as_nnunet(self) -> None:
        notes = window_notes([32, 32, 32], 0.5, "gaussian", (32, 32, 32))
        assert len(notes) == 1
        assert notes[0].startswith("nnU-Net spreads the windows evenly")

    def test_otherwise(self) -> None:
        notes = window_notes([32, 32, 32], 0.7, "constant", (32, 32, 32))
        assert notes[1:] == [
            "the windows overlap by 0.7: predict with -step_size 0.3",
            "nnU-Net weighs the voxels of a window by a Gaussian, and not as mode='constant' does",
        ]

    def test_another_window(self) -> None:
        with pytest.raises(
            ValueError, match=r"roi_size must be the network's img_size \(32, 32, 32\); got \(16, 32, 32\)"
        ):
            window_notes([16, 32, 32], 0.5, "gaussian", (32, 32, 32))
