from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO, NibabelIOWithReorient
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from scd_plugin.bridge import NnunetRecipe
from scd_plugin.bridge.runtime.affines import affine_of, preprocessed_affine, spacing_of


class TestAffine:
    def test_readers_agree(self, images: Path) -> None:
        file = str(images / "case_0000.nii.gz")
        itk, nibabel = (affine_of(reader().read_images([file])[1]) for reader in (SimpleITKIO, NibabelIO))
        np.testing.assert_allclose(itk, nibabel, atol=1e-5)
        # origin and first axis in ITK's file: -30.5, 12.25, 100 and 0.9 to the right
        np.testing.assert_allclose(itk[:3, 3], [30.5, -12.25, 100.0], atol=1e-5)
        np.testing.assert_allclose(itk[:3, 0], [0.9, 0, 0], atol=1e-5)

    def test_turned_to_ras(self, images: Path) -> None:
        read = NibabelIOWithReorient().read_images([str(images / "case_0000.nii.gz")])
        affine = affine_of(read[1])
        assert np.count_nonzero(np.abs(affine[:3, :3]) > 1e-4) == 3
        assert (np.diag(affine)[:3] > 0).all()

    def test_flat_image(self) -> None:
        known = {"sitk_stuff": {"spacing": (2.0, 3.0), "origin": (5.0, 7.0), "direction": (1.0, 0.0, 0.0, 1.0)}}
        expected = np.diag([-2.0, -3.0, 1.0, 1.0])
        expected[:2, 3] = [-5, -7]
        np.testing.assert_allclose(affine_of(known), expected)

    def test_spacing_alone(self) -> None:
        np.testing.assert_allclose(affine_of({"spacing": (3.0, 2.0, 1.0)}), np.diag([1.0, 2.0, 3.0, 1.0]))

    def test_spacing_of(self, images: Path) -> None:
        _, properties = SimpleITKIO().read_images([str(images / "case_0000.nii.gz")])
        assert spacing_of(affine_of(properties)) == pytest.approx(properties["spacing"], abs=1e-6)


@pytest.mark.parametrize("transpose", [[0, 1, 2], [2, 0, 1]], ids=["zyx", "xzy"])
def test_preprocessed_voxels_lie_where_the_affine_says(
    plans: dict[str, Any], dataset: dict[str, Any], transpose: list[int]
) -> None:
    plans = deepcopy(plans)
    plans["transpose_forward"] = transpose
    plans["transpose_backward"] = np.argsort(transpose).tolist()
    configuration = plans["configurations"]["3d_fullres"]
    configuration.update(spacing=[0.7, 1.6, 1.2], normalization_schemes=["NoNormalization"])
    configuration["resampling_fn_data_kwargs"].update(order=1, force_separate_z=False)
    recipe = NnunetRecipe(plans, dataset, "3d_fullres")
    affine = np.array([[0.0, -1.3, 0, 5], [1.1, 0, 0, -7], [0, 0, 0.8, 11], [0, 0, 0, 1]])
    x, y, z = np.meshgrid(np.arange(24), np.arange(20), np.arange(18), indexing="ij")
    # each voxel holds one of its own coordinates, none of them 0 but in a border that is cropped
    places = np.einsum("ij,jxyz->ixyz", affine, np.stack([x, y, z, np.ones_like(x)]))[:3] + 1000
    places[:, :2] = 0
    for axis in range(3):
        image = places[axis].transpose(2, 1, 0)[None].astype(np.float32)
        data, known = recipe.preprocess(image, {"spacing": spacing_of(affine)})
        after = preprocessed_affine(
            affine,
            transpose,
            known["bbox_used_for_cropping"],
            known["shape_after_cropping_and_before_resampling"],
            data.shape[1:],
        )
        grid = np.stack(np.meshgrid(*(np.arange(size) for size in data.shape[1:]), indexing="ij"))
        expected = np.einsum("ij,j...->i...", after[:3, :3], grid)[axis] + after[axis, 3] + 1000
        inside = (slice(2, -2),) * 3
        # the first voxels of the border keep their value, so only the inside is a straight line
        np.testing.assert_allclose(data[0][inside], expected[inside], atol=2e-3)
    assert torch.linalg.det(torch.from_numpy(after[:3, :3])) != 0
