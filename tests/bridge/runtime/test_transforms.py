"""The transforms of a bundle from nnU-Net, by themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged

from scd_plugin.bridge import NnunetLoadImaged, NnunetPreprocessd, NnunetRestored, NnunetSaveImaged, read_recipe


class TestTransforms:
    def test_image_has_monais_axes_and_affine(self, make_model: Callable[..., Path], images: Path) -> None:
        recipe = read_recipe(make_model(), "3d_fullres")
        path = str(images / "case_0000.nii.gz")
        ours = NnunetLoadImaged("image", recipe)({"image": path})["image"]
        monais = Compose([LoadImaged("image"), EnsureChannelFirstd("image")])({"image": path})["image"]
        assert torch.equal(ours.as_tensor(), monais.as_tensor())
        torch.testing.assert_close(ours.affine, monais.affine.to(ours.affine), atol=1e-5, rtol=0)

    def test_images_that_monai_loaded(self, make_model: Callable[..., Path], images: Path, tmp_path: Path) -> None:
        recipe = read_recipe(make_model(), "3d_fullres")
        loaded = Compose([LoadImaged("image"), EnsureChannelFirstd("image")])(
            {"image": str(images / "case_0000.nii.gz")}
        )
        data = NnunetPreprocessd("image", recipe)(loaded)
        ours = Compose([NnunetLoadImaged("image", recipe), NnunetPreprocessd("image", recipe)])(
            {"image": str(images / "case_0000.nii.gz")}
        )
        torch.testing.assert_close(data["image"].as_tensor(), ours["image"].as_tensor())
        shape = data["image"].shape[1:]
        data["pred"] = torch.stack([torch.zeros(shape), torch.ones(shape), torch.zeros(shape)])
        restored = NnunetRestored("pred", recipe)(data)
        assert restored["pred"].shape == (1, 41, 36, 18)
        assert restored["pred"].dtype == torch.uint8
        torch.testing.assert_close(restored["pred"].affine, loaded["image"].affine)
        # one class everywhere, but in the border of 0 that was cropped
        assert restored["pred"][0, :40, 3:, 2:].min() == 1
        assert restored["pred"][0, :, :3].max() == 0
        with pytest.raises(ValueError, match=r"label map of .*case_0000.nii.gz: it was not read by NnunetLoadImaged"):
            NnunetSaveImaged("pred", recipe, tmp_path)(restored)

    def test_channels(self, make_model: Callable[..., Path], images: Path) -> None:
        recipe = read_recipe(make_model(), "3d_fullres")
        files = [str(path) for path in sorted(images.iterdir())]
        with pytest.raises(ValueError, match="has 2 channels where the network takes 1: CT"):
            NnunetLoadImaged("image", recipe)({"image": files})
