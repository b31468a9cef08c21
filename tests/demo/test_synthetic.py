import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from scd_plugin.demo.synthetic import LABELS, make_case, write_dataset


def test_same_seed_same_case() -> None:
    first, again, other = (make_case(np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    assert not np.array_equal(first[1], other[1])


def test_organs_differ_in_size_and_most_tokens_are_background() -> None:
    image, labels = make_case(np.random.default_rng(0))
    assert image.shape == labels.shape == (64, 64, 64)
    voxels = np.bincount(labels.ravel(), minlength=len(LABELS))
    assert (voxels[1:] > 50).all()
    assert voxels[1] > 5 * voxels[4]
    tokens = labels.reshape(8, 8, 8, 8, 8, 8).transpose(0, 2, 4, 1, 3, 5).reshape(512, -1)
    assert (tokens.any(axis=1)).mean() < 0.5


def test_writes_what_nnunet_reads(tmp_path: Path) -> None:
    write_dataset(tmp_path, num_cases=2, seed=5)
    description = json.loads((tmp_path / "dataset.json").read_text())
    assert description["numTraining"] == 2
    assert description["channel_names"] == {"0": "CT"}
    image = sitk.ReadImage(str(tmp_path / "imagesTr" / "case_001_0000.nii.gz"))
    labels = sitk.ReadImage(str(tmp_path / "labelsTr" / "case_001.nii.gz"))
    assert image.GetSpacing() == labels.GetSpacing() == (3.0, 3.0, 3.0)
    assert sorted(np.unique(sitk.GetArrayFromImage(labels)).tolist()) == sorted(description["labels"].values())
