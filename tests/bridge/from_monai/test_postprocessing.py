from __future__ import annotations

from typing import Any

import monai.transforms as mt
import pytest

from scd_plugin.bridge.from_monai.components import components_for
from scd_plugin.bridge.from_monai.postprocessing import Painting, region_painting, window_notes
from scd_plugin.monai.dataset.region_transforms import RegionsToLabelsd


class TestRegionPainting:
    @pytest.mark.parametrize(
        ("transforms", "painting"),
        [
            ([mt.Activationsd("pred", softmax=True), mt.AsDiscreted("pred", argmax=True)], None),
            ([mt.Activationsd("pred", sigmoid=True), mt.AsDiscreted("pred", threshold=0.5)], Painting()),
            ([mt.AsDiscreted("pred", threshold=0.5)], Painting()),
            ([mt.SaveImaged("pred"), mt.EnsureTyped("pred")], None),
            ([mt.AsDiscreted("pred", argmax=True), mt.MapLabelValued("pred", [0, 1], [0, 1])], None),
            (
                [mt.AsDiscreted("pred", threshold=0.5), RegionsToLabelsd("pred", [2, 1, 3], painting=[1, 0, 2])],
                Painting((2, 1, 3), (1, 0, 2)),
            ),
            ([RegionsToLabelsd("pred", [1, 2])], Painting((1, 2), (0, 1))),
        ],
        ids=["classes", "sigmoid", "threshold", "nothing", "same labels", "painted in an order", "painted"],
    )
    def test_kind(self, transforms: list[Any], painting: Painting | None) -> None:
        assert region_painting(components_for("pred", transforms)) == painting

    @pytest.mark.parametrize(
        ("transform", "message"),
        [
            (mt.KeepLargestConnectedComponentd("pred"), "KeepLargestConnectedComponentd can't be moved"),
            (
                mt.MapLabelValued("pred", [0, 1, 2], [0, 1, 5]),
                r"MapLabelValued can't be moved: labels of nnU-Net .* gap, .* writes \[0, 1, 5\] for \[0, 1, 2\]",
            ),
            (mt.AsDiscreted("pred", threshold=0.3), "nnU-Net's threshold is 0.5; got 0.3"),
            (RegionsToLabelsd("pred", [1, 1]), r"each region once, .*; got values \[1, 1\], painting \[0, 1\]"),
            (RegionsToLabelsd("pred", [1, 2], [0]), r"each region once, .*; got values \[1, 2\], painting \[0\]"),
        ],
    )
    def test_refused(self, transform: Any, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            region_painting(components_for("pred", transform))


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
