"""What a labelled folder says about the network that it needs: channels, classes, spacing, window, intensities."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from scd_plugin.monai import describe, intensity_config
from scd_plugin.monai.dataset.data import from_config
from scd_plugin.monai.dataset.window import window_and_patch


class TestDescribe:
    def test_plain_folder(self, volumes: Any, tmp_path: Path) -> None:
        description = describe(str(volumes.plain(tmp_path, values=(1, 5))))
        assert description == {
            "channel_names": ["MR or other"],
            "labels": {"label_1": [1], "label_5": [5]},
            "regions_order": [],
            "label_values": [0, 1, 5],
            "in_channels": 1,
            "out_channels": 3,
            "spacing": [1.0, 1.0, 1.0],
            "img_size": [24, 24, 20],
            "patch_size": [4, 4, 4],
            "ct_windows": [None],
        }

    def test_channels_of_two_kinds(self, volumes: Any, tmp_path: Path) -> None:
        description = describe(str(volumes.nnunet(tmp_path, channel_names=("CT", "PET"))))
        assert description["in_channels"] == 2
        low, high = description["ct_windows"][0]
        # foreground is 2 or 4 with noise of 1
        assert -1 < low < 1
        assert 5 < high < 8
        assert description["ct_windows"][1] is None

    def test_classes_come_by_their_values(self, volumes: Any, tmp_path: Path) -> None:
        labels = {"background": 0, "tumour": 2, "liver": 1}
        description = describe(str(volumes.nnunet(tmp_path, labels=labels)))
        assert list(description["labels"].items()) == [("liver", [1]), ("tumour", [2])]
        assert description["label_values"] == [0, 1, 2]

    @pytest.mark.parametrize("vector", [True, False], ids=["vector", "fourth axis"])
    def test_channels_in_one_file(self, volumes: Any, tmp_path: Path, vector: bool) -> None:
        volumes.nnunet(tmp_path, channel_names=("PET", "CT"), file_ending=".nrrd")
        for path in tmp_path.glob("labelsTr/*.nii.gz"):
            sitk.WriteImage(sitk.ReadImage(str(path)), str(path).replace(".nii.gz", ".nrrd"))
            path.unlink()
        entries = {}
        for path in sorted(tmp_path.glob("imagesTr/*_0000.nii.gz")):
            image = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
            both = np.stack([image, image + 1000], axis=-1 if vector else 0)
            name = path.name.removesuffix("_0000.nii.gz")
            volumes.write(tmp_path / "both" / f"{name}.nrrd", both, channels=vector)
            entries[name] = {"image": f"both/{name}.nrrd", "label": f"labelsTr/{name}.nrrd"}
        task = {
            "modality": {"0": "PET", "1": "CT"},
            "labels": {"0": "background", "1": "one", "2": "two"},
            "training": list(entries.values()),
        }
        (tmp_path / "dataset.json").write_text(json.dumps(task))
        description = describe(str(tmp_path))
        assert description["in_channels"] == 2
        assert description["ct_windows"][0] is None
        low, high = description["ct_windows"][1]
        # foreground is 2 or 4 with noise of 1
        assert 999 < low < 1001
        assert 1005 < high < 1008

    def test_regions(self, volumes: Any, tmp_path: Path) -> None:
        labels = {"background": 0, "whole": [1, 2], "core": 2}
        description = describe(str(volumes.nnunet(tmp_path, labels=labels, regions_class_order=[1, 2])))
        assert description["labels"] == {"whole": [1, 2], "core": [2]}
        assert description["out_channels"] == 2
        assert description["regions_order"] == [1, 2]

    def test_ct_is_known_by_its_values(self, volumes: Any, tmp_path: Path) -> None:
        volumes.plain(tmp_path)
        rng = np.random.default_rng(1)
        for path in (tmp_path / "images").iterdir():
            volumes.write(path, rng.integers(-1000, 400, volumes.shape).astype(np.int16))
        assert describe(str(tmp_path))["channel_names"] == ["CT"]

    def test_ct_whose_labels_have_a_fourth_axis(self, volumes: Any, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        for i in range(2):
            image, label = volumes.case(rng)
            volumes.write(tmp_path / "images" / f"{i}.mha", image - 1000)
            volumes.write(tmp_path / "labels" / f"{i}.mha", label[None])
        low, high = describe(str(tmp_path))["ct_windows"][0]
        assert -1001 < low < high < -990

    def test_spacing_of_a_microscope(self, volumes: Any, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        for i in range(2):
            for part, voxels in zip(("images", "labels"), volumes.case(rng)):
                volumes.write(tmp_path / part / f"{i}.mha", voxels, spacing=(0.00034, 0.00034, 0.00004))
        assert describe(str(tmp_path))["spacing"] == [0.00034, 0.00034, 0.00004]

    def test_axes_are_the_patients(self, volumes: Any, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        for i in range(2):
            for part, voxels in zip(("images", "labels"), volumes.case(rng)):
                image = sitk.GetImageFromArray(voxels)
                image.SetSpacing((3.0, 1.0, 1.0))
                # the file's first axis runs from feet to head
                image.SetDirection((0, 1, 0, 0, 0, 1, 1, 0, 0))
                (tmp_path / part).mkdir(exist_ok=True)
                sitk.WriteImage(image, str(tmp_path / part / f"{i}.nii.gz"))
        assert describe(str(tmp_path))["spacing"] == [1.0, 1.0, 3.0]

    def test_without_its_data(self, tmp_path: Path) -> None:
        assert describe(str(tmp_path / "gone"), recorded={"in_channels": 7}) == {"in_channels": 7}

    def test_ignore_label_is_refused(self, volumes: Any, tmp_path: Path) -> None:
        folder = volumes.nnunet(tmp_path, labels={"background": 0, "one": 1, "ignore": 2})
        with pytest.raises(ValueError, match=r"has an ignore label, 2, .* train it with nnU-Net"):
            describe(str(folder))

    def test_nothing_to_learn(self, volumes: Any, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="hold nothing but 0, so there is nothing to learn"):
            describe(str(volumes.plain(tmp_path, values=(0,))))


@pytest.mark.parametrize(
    ("shape", "spacing", "window", "patch"),
    [
        ((36, 50, 35), (1, 1, 1), [36, 52, 36], [4, 4, 4]),
        ((512, 512, 300), (0.8, 0.8, 1.2), [96, 96, 96], [8, 8, 8]),
        ((320, 320, 20), (0.6, 0.6, 3.6), [96, 96, 20], [8, 8, 2]),
        ((240, 240, 155), (1, 1, 1), [96, 96, 96], [8, 8, 8]),
        ((10, 10, 3), (1, 1, 9), [12, 12, 3], [4, 4, 1]),
    ],
    ids=["hippocampus", "abdomen", "prostate", "brain", "tiny"],
)
def test_window_and_patch(shape: Any, spacing: Any, window: list[int], patch: list[int]) -> None:
    assert window_and_patch(shape, spacing) == (window, patch)


class TestIntensityConfig:
    def image(self) -> Any:
        import torch

        return {"image": torch.stack([torch.linspace(-100, 300, 64), torch.linspace(0, 7, 64)]).reshape(2, 4, 4, 4)}

    def test_ct_alone(self) -> None:
        data = {"image": self.image()["image"][:1]}
        result = from_config(intensity_config([[-50.0, 150.0]]))(data)["image"]
        assert result.min() == -1.0
        assert result.max() == 1.0
        assert float(result.flatten()[20]) == pytest.approx((-100 + 400 * 20 / 63 - 50) / 100, abs=1e-5)

    def test_mixed(self) -> None:
        result = from_config(intensity_config([[-50.0, 150.0], None]))(self.image())
        assert set(result) == {"image"}
        assert result["image"].shape == (2, 4, 4, 4)
        assert result["image"][0].max() == 1.0
        assert float(result["image"][1].mean()) == pytest.approx(0.0, abs=1e-5)
        assert float(result["image"][1].std(unbiased=False)) == pytest.approx(1.0, abs=1e-4)

    def test_neither(self) -> None:
        assert intensity_config([None, None]) == {
            "_target_": "NormalizeIntensityd", "keys": "image", "channel_wise": True
        }  # fmt: skip
