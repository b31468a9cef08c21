"""What is wrong with plans.json and dataset.json, in one sentence; how they are used is tested through the commands."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

pytest.importorskip("nnunetv2")

from scd_plugin.nnunet.model.recipe import NnunetRecipe, read_recipe

PLANS: dict[str, Any] = {
    "image_reader_writer": "SimpleITKIO",
    "transpose_forward": [0, 1, 2],
    "transpose_backward": [0, 1, 2],
    "foreground_intensity_properties_per_channel": {},
    "label_manager": "LabelManager",
    "configurations": {"3d_fullres": {"architecture": {}}, "2d": {"patch_size": [32, 32]}},
}
DATASET: dict[str, Any] = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}, "file_ending": ".mha"}
TAKE = "; take plans.json and dataset.json of the training"


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in DATASET.items() if name not in names}


def test_what_is_needed() -> None:
    recipe = NnunetRecipe(PLANS, DATASET, "3d_fullres")
    assert (recipe.file_ending, recipe.channel_names, recipe.num_channels) == (".mha", {"0": "CT"}, 1)
    assert recipe.labels.num_segmentation_heads == 2


@pytest.mark.parametrize("reader", ["SimpleITKIO", "NibabelIO"])
def test_a_label_map_that_is_none(tmp_path: Path, reader: str) -> None:
    file = tmp_path / "a.nii.gz"
    file.write_text("version https://git-lfs.github.com/spec/v1\n")
    recipe = NnunetRecipe({**PLANS, "image_reader_writer": reader}, {**DATASET, "file_ending": ".nii.gz"}, "3d_fullres")
    with pytest.raises(ValueError, match=r"a.nii.gz can't be read as an image: "):
        recipe.read_label_map(str(file))


def test_an_image_of_four_axes(tmp_path: Path) -> None:
    """As many volumes as channels, so that nothing else tells."""
    dataset = {**DATASET, "channel_names": {"0": "T1", "1": "T2"}, "file_ending": ".nii.gz"}
    plans = {**PLANS, "configurations": {"3d_fullres": {"patch_size": [4, 4, 4], "architecture": {}}}}
    image = sitk.JoinSeries([sitk.GetImageFromArray(np.zeros((6, 5, 4), np.float32))] * 2)
    sitk.WriteImage(image, str(tmp_path / "a.nii.gz"))
    with pytest.raises(ValueError, match=r"a.nii.gz has more than three axes: write each channel to a file of its own"):
        NnunetRecipe(plans, dataset, "3d_fullres").read([str(tmp_path / "a.nii.gz")])


def test_old_name_of_channels() -> None:
    recipe = NnunetRecipe(PLANS, {**without("channel_names"), "modality": {"0": "MR", "1": "CT"}}, "3d_fullres")
    assert recipe.channel_names == {"0": "MR", "1": "CT"}


@pytest.mark.parametrize(
    ("plans", "dataset", "message"),
    [
        ([], DATASET, f"plans.json must be an object, {{...}}, as nnU-Net writes it, not a list{TAKE}"),
        (None, DATASET, f"plans.json must be an object, {{...}}, as nnU-Net writes it, not null{TAKE}"),
        ({"configurations": ["2d"]}, DATASET, f"configurations of plans.json must be an object .*, not a list{TAKE}"),
        ({}, DATASET, "the plans have no configuration '3d_fullres'; they have none"),
        (
            {name: value for name, value in PLANS.items() if name != "image_reader_writer"},
            DATASET,
            f"plans.json has no image_reader_writer, which nnU-Net needs at prediction{TAKE}",
        ),
        (
            {"configurations": PLANS["configurations"]},
            DATASET,
            "plans.json has no image_reader_writer, transpose_forward, transpose_backward, foreground_intensity",
        ),
        (PLANS, [DATASET], f"dataset.json must be an object, {{...}}, as nnU-Net writes it, not a list{TAKE}"),
        (PLANS, 5, "dataset.json must be an object, {...}, as nnU-Net writes it, not the value 5"),
        (PLANS, without("labels"), f"dataset.json has no labels, which nnU-Net needs at prediction{TAKE}"),
        (PLANS, without("file_ending"), f"dataset.json has no file_ending, which nnU-Net needs at prediction{TAKE}"),
        (PLANS, without("channel_names"), "dataset.json has no channel_names, which"),
        (PLANS, {}, "dataset.json has no channel_names, labels, file_ending, which"),
        (PLANS, {**DATASET, "labels": ["liver"]}, "labels of dataset.json must be an object, {...}, .*, not a list"),
        (
            PLANS,
            {**DATASET, "labels": {"liver": 1}},
            "nnU-Net does not take the labels of dataset.json, {'liver': 1}: Background label not declared",
        ),
        (
            PLANS,
            {**DATASET, "labels": {"background": 0, "liver": 2, "ignore": 1}},
            "nnU-Net does not take the labels of dataset.json, .*: If you use the ignore label it must have",
        ),
        (
            PLANS,
            {**DATASET, "labels": {"background": 0, "liver": "1"}},
            "label liver of dataset.json must be a whole number, or a list of them for a region; got '1'",
        ),
        (PLANS, {**DATASET, "channel_names": ["CT"]}, "channel_names of dataset.json must be an object, {...}, .*list"),
    ],
    ids=[
        "plans a list", "plans null", "configurations a list", "no configurations", "no reader",
        "nothing but configurations", "dataset a list",
        "dataset a number", "no labels", "no file ending", "no channels", "nothing", "labels a list", "no background",
        "ignore label", "label of text", "list of channels",
    ],
)  # fmt: skip
def test_refused(tmp_path: Path, plans: Any, dataset: Any, message: str) -> None:
    pattern = re.escape(message).replace(r"\.\*", ".*")
    with pytest.raises(ValueError, match=f"^{pattern}"):
        NnunetRecipe(plans, dataset, "3d_fullres")
    (tmp_path / "plans.json").write_text(json.dumps(plans))
    (tmp_path / "dataset.json").write_text(json.dumps(dataset))
    with pytest.raises(ValueError, match=f"^{re.escape(str(tmp_path))}: {pattern}"):
        read_recipe(tmp_path, "3d_fullres")


@pytest.mark.filterwarnings("ignore:Detected old nnU-Net plans format")
def test_configuration_without_a_network() -> None:
    with pytest.raises(ValueError, match=r"^configuration 2d of plans.json has no .UNet_class_name., which"):
        NnunetRecipe(PLANS, DATASET, "2d")


RECIPE = {name: {"architecture": {}, "patch_size": [8] * axes} for name, axes in (("3d_fullres", 3), ("2d", 2))}


class TestRead:
    """Images that would be read as something else."""

    def read(self, path: Path, voxels: np.ndarray, configuration: str = "3d_fullres") -> np.ndarray:
        recipe = NnunetRecipe({**PLANS, "configurations": RECIPE}, DATASET, configuration)
        image = sitk.GetImageFromArray(voxels)
        sitk.WriteImage(image, str(path))
        return recipe.read([str(path)])[0]

    def test_whole(self, tmp_path: Path) -> None:
        voxels = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
        assert np.array_equal(self.read(tmp_path / "a.nii", voxels)[0], voxels)

    def test_flat_image_where_volumes_are_wanted(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"image .*a.nii is flat where the network takes volumes: give it a third"):
            self.read(tmp_path / "a.nii", np.ones((4, 5), np.float32))
        assert self.read(tmp_path / "a.nii", np.ones((4, 5), np.float32), "2d").shape == (1, 1, 4, 5)
        # a volume of one slice has its third spacing
        assert self.read(tmp_path / "b.nii", np.ones((1, 4, 5), np.float32)).shape == (1, 1, 4, 5)

    @pytest.mark.parametrize(
        ("name", "voxels", "sentence"),
        [
            ("a.nii", np.full((2, 3, 4), np.nan, np.float32), "a.nii holds NaN or infinite voxels: replace them"),
            (
                "a.mha",
                np.full((2, 3, 4), np.inf, np.float32),
                "channel CT holds NaN or infinite voxels, so a label",
            ),
            ("a.nii", np.full((2, 3, 4), 1e30, np.float32), r"a.nii holds voxels of up to 1e\+30, beyond 1e\+14"),
            ("a.mha", np.full((2, 3, 4), 1e30, np.float32), r"channel CT holds voxels of up to 1e\+30, beyond 1e\+14"),
            # infinite as float32
            ("a.mha", np.full((2, 3, 4), 1e39, np.float64), "channel CT holds NaN or infinite voxels"),
            ("a.nii", np.ones((2, 3, 4), np.complex64), "a.nii holds complex numbers"),
        ],
        ids=["NaN NIfTI", "infinite", "huge NIfTI", "huge", "beyond float32", "complex"],
    )
    def test_values(self, tmp_path: Path, name: str, voxels: np.ndarray, sentence: str) -> None:
        with pytest.raises(ValueError, match=sentence):
            self.read(tmp_path / name, voxels)


def test_labels_that_do_not_fit_into_16_bits() -> None:
    dataset = {**DATASET, "labels": {"background": 0, "all": [1, 2], "core": 2}, "regions_class_order": [1, 70000]}
    with pytest.raises(ValueError, match=r"regions_class_order of dataset.json has 70000; nnU-Net writes .* 65535$"):
        NnunetRecipe(PLANS, dataset, "3d_fullres")
