"""Label maps keep their axes, and never stay half written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import SaveImage

from scd_plugin.monai import VolumeWriter
from scd_plugin.monai.errors import explained


def save(folder: Path, voxels: torch.Tensor) -> Path:
    saver = SaveImage(folder, "seg", ".nii.gz", np.uint32, separate_folder=False, print_log=False, writer=VolumeWriter)
    affine = torch.diag(torch.tensor([-1.0, 2.0, 3.0, 1.0]))
    saver(MetaTensor(voxels, affine=affine, meta={"filename_or_obj": "a.nii.gz"}))
    return folder / "a_seg.nii.gz"


@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 4, 1), (3, 1, 1), (1, 1, 1), (1, 4, 5), (3, 1, 5)], ids=str)
def test_all_axes_stay(tmp_path: Path, shape: tuple[int, ...]) -> None:
    voxels = torch.arange(np.prod(shape)).reshape(1, *shape)
    written = nib.load(save(tmp_path, voxels))
    assert np.array_equal(np.asarray(written.dataobj), voxels[0].numpy())
    assert np.array_equal(written.affine, np.diag([-1, 2, 3, 1]))


def test_channels_come_last(tmp_path: Path) -> None:
    voxels = torch.arange(24).reshape(2, 3, 4, 1)
    assert np.array_equal(np.asarray(nib.load(save(tmp_path, voxels)).dataobj), voxels.movedim(0, -1).numpy())


def test_large_values(tmp_path: Path) -> None:
    assert nib.load(save(tmp_path, torch.full((1, 2, 2, 2), 70000))).get_fdata().max() == 70000


def full(_: Any, path: Path) -> None:
    Path(path).write_bytes(b"half")
    raise OSError(28, "No space left on device")


def cut_off(image: Any, path: Path) -> None:
    nib.Nifti1Image.to_filename(image, path)
    path.write_bytes(path.read_bytes()[:-20])


def wrong(image: Any, path: Path) -> None:
    nib.Nifti1Image.to_filename(nib.Nifti1Image(np.asarray(image.dataobj) * 0, image.affine), path)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [(full, "No space left on device"), (cut_off, "it could not be read back"), (wrong, "it could not be read back")],
    ids=["full", "cut off", "wrong"],
)
def test_no_half_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Callable[..., None], reason: str
) -> None:
    before = save(tmp_path, torch.zeros(1, 4, 4, 4)).read_bytes()
    monkeypatch.setattr(nib, "save", fault)
    with pytest.raises(RuntimeError, match="cannot find a suitable writer") as caught:
        save(tmp_path, torch.ones(1, 4, 4, 4))
    assert [path.name for path in tmp_path.iterdir()] == ["a_seg.nii.gz"]
    assert (tmp_path / "a_seg.nii.gz").read_bytes() == before
    sentence = rf"{tmp_path}/a_seg.nii.gz can't be written \({reason}.*\); what was there is kept: mend that"
    with pytest.raises(ValueError, match=sentence):
        raise ValueError(explained(caught.value))
