"""Bundles whose regions are painted in another order than that of their channels."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from nnunetv2.inference.sliding_window_prediction import compute_gaussian

from scd_plugin import SCDUNETR
from scd_plugin.bridge.from_monai.postprocessing import Painting, in_painting_order
from scd_plugin.bridge.to_nnunet import bundle_to_nnunet

BUNDLES = Path(__file__).parents[3] / "bundles"
BRATS, GENERAL = "scd_unetr_brats_segmentation", "scd_unetr_segmentation"
IMG_SIZE = (32, 24, 16)
# of the trainer for demonstrations
SMALL: dict[str, Any] = {
    "out_channels": 3,
    "img_size": list(IMG_SIZE),
    "patch_size": [4, 4, 2],
    "feature_size": 8,
    "hidden_size": 96,
    "mlp_dim": 384,
    "num_heads": 3,
    "num_layers": 8,
    "prune_after": [2, 4, 6],
    "pool_stride": [2, 2, 1],
}
WHOLE, CORE, ACTIVE = [1, 2, 3], [2, 3], 3
NESTED = {"background": 0, "whole": WHOLE, "core": CORE, "active": ACTIVE}
BY_CHANNEL = {"background": 0, "core": CORE, "whole": WHOLE, "active": ACTIVE}
REVERSED = {"background": 0, "active": ACTIVE, "core": CORE, "whole": WHOLE}


def small_bundle(root: Path, name: str) -> Path:
    """A bundle of the repository with a small network that was never trained, in which no region is rare."""
    for folder in ("configs", "models"):
        (root / folder).mkdir(parents=True)
    inference, metadata = (
        json.loads((BUNDLES / name / "configs" / file).read_text()) for file in ("inference.json", "metadata.json")
    )
    inference["network_def"].update(SMALL)
    inference.update(img_size=list(IMG_SIZE), device="cpu")
    if name == GENERAL:
        labels = {"whole": WHOLE, "core": CORE, "active": [ACTIVE]}
        inference.update(regions_order=[1, 2, 3], label_values=[])
        metadata["dataset"].update(labels=labels, regions_order=[1, 2, 3])
        metadata["network_data_format"]["outputs"]["pred"]["channel_def"] = dict(zip("012", labels))
    torch.manual_seed(0)
    weights = SCDUNETR(**{key: value for key, value in inference["network_def"].items() if key[0] != "_"}).state_dict()
    weights["decoder.out.conv.conv.weight"] -= weights["decoder.out.conv.conv.weight"].mean(dim=1, keepdim=True)
    weights["decoder.out.conv.conv.bias"].zero_()
    torch.save(weights, root / "models" / "model.pt")
    (root / "configs" / "inference.json").write_text(json.dumps(inference))
    (root / "configs" / "metadata.json").write_text(json.dumps(metadata))
    return root


def write_image(folder: Path, num_channels: int) -> Path:
    """A case that fits the window, on a grid of 1 mm."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for channel in range(num_channels):
        blocks = rng.integers(1, 400, (8, 6, 4)).repeat(4, 0).repeat(4, 1).repeat(4, 2)[:31, :23, :15]
        image = nibabel.Nifti1Image((blocks + rng.integers(0, 20, blocks.shape)).astype(np.int16), np.eye(4))
        nibabel.save(image, folder / f"case_{channel:04d}.nii.gz")
    return folder


def label_map(file: Path) -> np.ndarray:
    return np.asarray(nibabel.load(file).dataobj).astype(int)


class TestSameLabelMap:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("name", "labels", "values"),
        [
            (BRATS, NESTED, [1, 2, 3]),
            (BRATS, BY_CHANNEL, [2, 1, 3]),
            (GENERAL, None, []),
            (GENERAL, REVERSED, [3, 2, 1]),
        ],
        ids=["painting order", "channel order", "metadata", "reversed"],
    )
    def test_regions(
        self,
        tmp_path: Path,
        predict_by_both: Callable[[Path, Path, Path], Path],
        name: str,
        labels: dict[str, Any] | None,
        values: list[int],
    ) -> None:
        bundle = small_bundle(tmp_path / "bundle", name)
        num_channels = 4 if name == BRATS else 1
        dataset_json = None
        if labels is not None:
            channels = {str(channel): f"MR {channel}" for channel in range(num_channels)}
            described = {"channel_names": channels, "labels": labels, "regions_class_order": values}
            dataset_json = tmp_path / "dataset.json"
            dataset_json.write_text(json.dumps({**described, "file_ending": ".nii.gz"}))
        moved = bundle_to_nnunet(bundle, dataset_json=dataset_json)
        assert list(moved.dataset["labels"]) == ["background", "whole", "core", "active"]
        assert moved.dataset["regions_class_order"] == [1, 2, 3]
        images = write_image(tmp_path / "images", num_channels)
        model = moved.write(tmp_path / "model")
        output = predict_by_both(model, bundle, images)
        by_nnunet = label_map(output / "case.nii.gz")
        by_monai = label_map(next((bundle / "eval").iterdir()))
        assert np.unique(by_monai).tolist() == [0, 1, 2, 3]
        # nnU-Net adds up windows in float16: where their weights are small, digits are lost
        weight = compute_gaussian(IMG_SIZE, value_scaling_factor=10, device=torch.device("cpu")).numpy()
        inside = weight[tuple(map(slice, by_nnunet.shape))] > 0.01
        np.testing.assert_array_equal(by_nnunet[inside], by_monai[inside])
        assert (by_nnunet == by_monai).mean() > 0.98


def test_brats_bundle_needs_a_description(tmp_path: Path) -> None:
    bundle = small_bundle(tmp_path / "bundle", BRATS)
    with pytest.raises(ValueError, match=r"predicts regions that overlap, and its metadata does not say .*--dataset-j"):
        bundle_to_nnunet(bundle)


def test_output_layer_follows_the_painting(tmp_path: Path) -> None:
    bundle = small_bundle(tmp_path / "bundle", BRATS)
    channels = {str(channel): "MR" for channel in range(4)}
    described = {"channel_names": channels, "labels": NESTED, "regions_class_order": [1, 2, 3], "file_ending": ".mha"}
    (tmp_path / "dataset.json").write_text(json.dumps(described))
    moved = bundle_to_nnunet(bundle, dataset_json=tmp_path / "dataset.json")
    name = "decoder.out.conv.conv.weight"
    core, whole, active = torch.load(bundle / "models" / "model.pt", weights_only=True)[name]
    assert torch.equal(moved.weights["0"][name], torch.stack([whole, core, active]))
    assert moved.dataset == described


class TestInPaintingOrder:
    def test_by_value(self) -> None:
        dataset = {"labels": {**REVERSED, "ignore": 4}, "regions_class_order": [3, 2, 1], "file_ending": ".mha"}
        ordered, channels = in_painting_order(dataset, ["", "", ""], Painting((2, 1, 3), (1, 0, 2)))
        assert list(ordered["labels"].items())[2:] == [("whole", WHOLE), ("core", CORE), ("active", ACTIVE)]
        assert ordered["labels"]["ignore"] == 4
        assert (ordered["regions_class_order"], ordered["file_ending"]) == ([1, 2, 3], ".mha")
        assert channels == [1, 0, 2]

    def test_by_name_where_nothing_is_painted(self) -> None:
        dataset = {"labels": NESTED, "regions_class_order": [5, 6, 7]}
        ordered, channels = in_painting_order(dataset, ["active", "whole", "core"], Painting())
        assert ordered == dataset
        assert channels == [1, 2, 0]

    @pytest.mark.parametrize(
        ("labels", "values", "painting", "message"),
        [
            (NESTED, [1, 2, 4], Painting((2, 1, 3), (1, 0, 2)), r"bundle paints, \[1, 2, 3\]; got \[1, 2, 4\]"),
            (NESTED, [2, 1, 3], Painting((2, 1, 3), (1, 0, 2)), "region whole .* would be painted over core"),
            (REVERSED, [3, 2, 1], Painting(), "region core .* would be painted over active"),
            ({"background": 0, "a": WHOLE, "b": 2, "c": 3}, [1, 2, 3], Painting(), "channels, active, whole, core, .*"),
        ],
        ids=["other values", "swapped values", "order of nnU-Net", "other names"],
    )
    def test_refused(self, labels: dict[str, Any], values: list[int], painting: Painting, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            in_painting_order({"labels": labels, "regions_class_order": values}, ["active", "whole", "core"], painting)
