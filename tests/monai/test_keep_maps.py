"""Keep maps of bundles: the network's stages, by windows of the inference, in the image's own geometry."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from monai.inferers import SlidingWindowInferer
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, Orientationd, Spacingd
from torch import Tensor

from scd_plugin import SCDUNETR
from scd_plugin.monai import KeepMaps
from scd_plugin.monai.keep_maps import kept_percent, latest

AFFINE = np.diag([-1.0, 2.0, 1.0, 1.0])
AFFINE[:3, 3] = (10, -20, 5)


def infer(network: torch.nn.Module, folder: Path, size: tuple[int, int, int], **options: Any) -> Tensor:
    """Run an evaluator with the handler over one image, and return what it predicted."""
    voxels = np.random.default_rng(0).normal(size=size).astype(np.float32)
    nib.save(nib.Nifti1Image(voxels, AFFINE), folder / "a.b.nii.gz")
    preprocessing = Compose(
        [
            LoadImaged("image", reader="ITKReader"),
            EnsureChannelFirstd("image"),
            Orientationd("image", axcodes="RAS", labels=(("L", "R"), ("P", "A"), ("I", "S"))),
            Spacingd("image", pixdim=(1.0, 1.0, 1.0), mode="bilinear"),
        ]
    )
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset([{"image": str(folder / "a.b.nii.gz")}], preprocessing)),
        network=network,
        inferer=SlidingWindowInferer(roi_size=32, sw_batch_size=2, overlap=0.5, mode="gaussian"),
        val_handlers=[KeepMaps(network, preprocessing, str(folder / "out"), **options)],
    )
    evaluator.run()
    predicted: Tensor = evaluator.state.output[0]["pred"]
    return predicted


def test_in_the_geometry_of_the_image(small: Callable[..., SCDUNETR], tmp_path: Path) -> None:
    network = small(in_channels=1).eval()
    # 40 x 60 x 32 at 1 mm: several windows
    with_maps = infer(network, tmp_path, (40, 30, 32), shares=True)
    assert sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")) == [
        "keep_maps/a.b.nii.gz", "keep_maps/keep_map.ctbl", "keep_shares/a.b.nii.gz"
    ]  # fmt: skip
    stages, percent = (nib.load(tmp_path / "out" / name / "a.b.nii.gz") for name in ("keep_maps", "keep_shares"))
    for image in (stages, percent):
        assert image.shape == (40, 30, 32)
        np.testing.assert_allclose(image.affine, AFFINE, atol=1e-5)
        assert image.get_data_dtype() == np.uint8
    values, shares = (np.asarray(image.dataobj) for image in (stages, percent))
    assert set(np.unique(values)) == {1, 2, 3, 4}
    assert ((values == 4) == (shares > 0)).mean() > 0.99
    assert 0 < (shares == 100).mean() < (shares > 0).mean() < 1
    # what the network predicts is untouched
    plain = small(in_channels=1).eval()
    plain.load_state_dict(network.state_dict())
    assert torch.equal(infer(plain, tmp_path, (40, 30, 32)), with_maps)


def test_one_window_is_what_the_network_says(small: Callable[..., SCDUNETR], tmp_path: Path) -> None:
    network = small(in_channels=1).eval()
    infer(network, tmp_path, (32, 16, 32))
    assert not (tmp_path / "out" / "keep_shares").exists()
    values = np.asarray(nib.load(tmp_path / "out" / "keep_maps" / "a.b.nii.gz").dataobj)
    assert [int((values == stage).sum()) for stage in (1, 2, 3, 4)] == [8192, 4096, 2048, 2048]


def test_shares_of_windows() -> None:
    shares = torch.tensor([[0.5, 0.0, 1.0, 0.25], [0.0, 0.2, 0.0, 0.75], [0.5, 0.8, 0.0, 0.0]]).reshape(3, 2, 2)
    assert latest(shares).flatten().tolist() == [3, 3, 1, 2]
    assert kept_percent(shares).flatten().tolist() == [50, 80, 0, 0]


def test_a_network_that_prunes_nothing(small: Callable[..., SCDUNETR], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a keep map is for networks that prune tokens, and this one prunes none"):
        KeepMaps(small(keep_ratio=1), Compose([]), str(tmp_path))
