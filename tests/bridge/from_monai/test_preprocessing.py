"""The numbers of MONAI's transforms and of nnU-Net's normalisation with the plans made from them are the same."""

from __future__ import annotations

from typing import Any

import monai.transforms as mt
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from nnunetv2.preprocessing.normalization import default_normalization_schemes

from scd_plugin.bridge.from_monai.components import component_of, components_for
from scd_plugin.bridge.from_monai.preprocessing import Component, express
from scd_plugin.monai.dataset.describe import intensity_config

IMG_SIZE = (32, 32, 32)
# float32 on both sides, in another order of the same operations
TOLERANCE = 1e-5


def built(config: dict[str, Any]) -> list[Any]:
    """The transforms of a config's Compose."""
    return list(ConfigParser({"intensity": config}).get_parsed_content("intensity").transforms)


def by_nnunet(image: np.ndarray, transforms: Any) -> np.ndarray:
    """What nnU-Net makes of an image with the plans for these transforms."""
    result = express(components_for("image", transforms), num_channels=len(image), img_size=IMG_SIZE)
    channels = []
    for channel, one in zip(image, result.intensity):
        numbers = {"mean": one.mean, "std": one.std, "percentile_00_5": one.low, "percentile_99_5": one.high}
        scheme = getattr(default_normalization_schemes, one.scheme)(one.use_mask, numbers)
        mask = np.where(channel != 0, 0, -1)
        channels.append(scheme.run(channel.copy(), mask))
    return np.stack(channels)


@pytest.mark.parametrize(
    "transforms",
    [
        [],
        [mt.NormalizeIntensityd("image", channel_wise=True)],
        [mt.NormalizeIntensityd("image", channel_wise=True, nonzero=True)],
        [mt.NormalizeIntensityd("image", subtrahend=[30.0, 40.0], divisor=[5.0, 2.0], channel_wise=True)],
        [mt.ScaleIntensityRanged("image", a_min=-958, a_max=326, b_min=0, b_max=1, clip=True)],
        [mt.ScaleIntensityRanged("image", a_min=-100, a_max=200, b_min=-1, b_max=1, clip=True)],
        [mt.ScaleIntensityRanged("image", a_min=-100, a_max=200, b_min=-3, b_max=5)],
        [mt.ScaleIntensityRanged("image", a_min=-100, a_max=200)],
        [mt.ScaleIntensityd("image", channel_wise=True)],
        [
            mt.ScaleIntensityRanged("image", a_min=-150, a_max=250, b_min=-150, b_max=250, clip=True),
            mt.NormalizeIntensityd("image", subtrahend=20.0, divisor=70.0),
        ],
        built(intensity_config([[-100.0, 200.0], None])),
        built(intensity_config([None, [-100.0, 200.0]])),
    ],
    ids=lambda transforms: "-".join(type(one).__name__ for one in transforms) or "none",
)
def test_same_numbers(transforms: list[Any]) -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(50, 300, (2, 9, 8, 7)).astype(np.float32)
    image[:, :2] = 0
    expected = mt.Compose(transforms)({"image": torch.from_numpy(image.copy())})["image"].numpy()
    np.testing.assert_allclose(by_nnunet(image, transforms), expected, rtol=TOLERANCE, atol=TOLERANCE)


def test_loading_orientation_spacing_and_padding() -> None:
    transforms = mt.Compose(
        [
            mt.LoadImaged(["image", "label"]),
            mt.EnsureChannelFirstd(["image", "label"]),
            mt.Orientationd(["image", "label"], axcodes="RAS", labels=None),
            mt.Compose([mt.Spacingd(["image", "label"], pixdim=(1.5, 1.5, 2.0), mode=("bilinear", "nearest"))]),
            mt.ScaleIntensityRanged("image", a_min=-958, a_max=326, b_min=0, b_max=1, clip=True),
            mt.Resized("label", spatial_size=(3, 3, 3)),
            mt.CropForegroundd(["image", "label"], source_key="image"),
            mt.SpatialPadd("image", spatial_size=(32, 16, 32)),
            mt.EnsureTyped(["image", "label"]),
        ]
    )
    result = express(components_for("image", transforms), num_channels=1, img_size=IMG_SIZE)
    assert (result.spacing, result.order, result.to_ras) == ([1.5, 1.5, 2.0], 1, True)
    assert [note.split()[0] for note in result.notes] == ["CropForegroundd", "nnU-Net"]


BORDERS = "{} takes {} over the whole image, nnU-Net over the box of voxels that are not 0"


@pytest.mark.parametrize(
    ("transforms", "notes"),
    [
        (
            [mt.NormalizeIntensityd("image", channel_wise=True)],
            [BORDERS.format("NormalizeIntensityd", "mean and deviation")],
        ),
        (
            [mt.NormalizeIntensityd("image", channel_wise=True, nonzero=True)],
            ["NormalizeIntensityd with nonzero=True leaves out each channel's own zeros, nnU-Net what is 0 in all"],
        ),
        ([mt.ScaleIntensityd("image", channel_wise=True)], [BORDERS.format("ScaleIntensityd", "minimum and maximum")]),
        (
            [mt.CropForegroundd("image", source_key="image"), mt.NormalizeIntensityd("image", channel_wise=True)],
            ["CropForegroundd crops to voxels above 0, nnU-Net to voxels that are not 0"],
        ),
    ],
)
def test_borders_of_zeros_are_said(transforms: list[Any], notes: list[str]) -> None:
    found = express(components_for("image", mt.Compose(transforms)), num_channels=2, img_size=IMG_SIZE).notes
    assert len(found) == len(notes)
    for note, start in zip(found, notes):
        assert note.startswith(start)


@pytest.mark.parametrize(
    ("transforms", "message"),
    [
        (
            mt.Resized("image", spatial_size=(8, 8, 8)),
            "Resized can't be expressed in nnU-Net's plans: nnU-Net has nothing",
        ),
        (
            mt.ScaleIntensityRangePercentilesd("image", 1, 99, 0, 1),
            "ScaleIntensityRangePercentilesd can't be expressed",
        ),
        (
            mt.Orientationd("image", axcodes="LPS", labels=None),
            "a reader that turns images to RAS and none for axcodes='LPS'",
        ),
        (mt.Spacingd("image", pixdim=(1.0, 1.0, -1.0)), "pixdim must be three positive numbers"),
        (mt.Spacingd("image", pixdim=(1, 1, 1), mode=5), "mode must be one of nearest, bilinear, 0, 1, 3; got 5"),
        (mt.NormalizeIntensityd("image"), "channel_wise must be true"),
        (mt.NormalizeIntensityd("image", subtrahend=3.0), "both subtrahend and divisor"),
        (mt.NormalizeIntensityd("image", subtrahend=[1.0], divisor=[2.0]), r"one for each of 2 channels; got \[1.0\]"),
        (mt.NormalizeIntensityd("image", subtrahend=1.0, divisor=-2.0), "divisor must be positive; got -2.0"),
        (mt.ScaleIntensityRanged("image", 0, 0), "a_min < a_max and b_min < b_max are needed; got 0, 0, 0.0, 1.0"),
        (mt.ScaleIntensityRanged("image", 0, 9, clip=True), "clip=True needs b_min and b_max"),
        (mt.ScaleIntensityd("image", minv=-1, channel_wise=True), "scales to 0..1 alone"),
        (mt.ScaleIntensityd("image"), "nnU-Net scales each channel by itself"),
        (mt.CropForegroundd("image", "image", select_fn=torch.isfinite), "whatever select_fn says"),
        (mt.SpatialPadd("image", spatial_size=(64, 64, 64)), r"pads to the network's img_size \(32, 32, 32\)"),
        (mt.CastToTyped("image", dtype=np.int16), "its dtype must be float32"),
        (
            [mt.ScaleIntensityd("image", channel_wise=True), mt.NormalizeIntensityd("image", channel_wise=True)],
            r"NormalizeIntensityd .* comes after another intensity transform \(RescaleTo01Normalization\)",
        ),
        (
            built(intensity_config([[0.0, 9.0], None]))[:-2],
            "SplitDimd can't be expressed in nnU-Net's plans: nnU-Net has nothing",
        ),
        (
            [mt.SplitDimd("image", ["0", "1"]), mt.ConcatItemsd(["image_1", "image_0"], "image")],
            "ConcatItemsd can't be expressed",
        ),
        (
            [
                mt.SplitDimd("image", ["0", "1"]),
                mt.CropForegroundd("image_1", "image_1"),
                mt.ConcatItemsd(["image_0", "image_1"], "image"),
            ],
            "CropForegroundd can't be .*: plans hold no more than a normalisation for channel 1 alone",
        ),
        (
            [mt.Spacingd("image", pixdim=(1, 1, 1)), mt.Orientationd("image", axcodes="RAS", labels=None)],
            "Orientationd .* must come before Spacingd",
        ),
    ],
)
def test_refused(transforms: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        express(components_for("image", transforms), num_channels=2, img_size=IMG_SIZE)


def test_component_of_a_transform_of_which_nothing_is_known() -> None:
    assert component_of(mt.Flipd("image", 0)) == Component("Flipd", {})
