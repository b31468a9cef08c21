"""The bundle that is shipped with weights: small, as it was trained, and of use."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from model_to_try import GENERAL, OPTIONS, counted_ratios, write_defaults
from monai.bundle import load, run
from typer.testing import CliRunner

from scd_plugin import SCDUNETR
from scd_plugin.cli import app
from scd_plugin.measure.cost import parameters
from scd_plugin.monai.dataset.trained_on import trained_on

BUNDLE = GENERAL.with_name("scd_unetr_hippocampus")
MAX_BYTES = 8_000_000
# of the 40 cases that it was validated on; its mean is in metadata.json
CASES = ("hippocampus_011", "hippocampus_015")
LEAST_DICE = 0.8


def config(folder: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "configs" / f"{name}.json").read_text(encoding="utf-8"))
    return content


def mean_dice(prediction: Path, truth: Path) -> float:
    """Of both classes, in the image's own grid."""
    measure = sitk.LabelOverlapMeasuresImageFilter()
    images = [sitk.Cast(sitk.ReadImage(str(path)), sitk.sitkUInt8) for path in (truth, prediction)]
    images[1].CopyInformation(images[0])
    measure.Execute(*images)
    return float(np.mean([measure.GetDiceCoefficient(value) for value in (1, 2)]))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A copy, as users make one."""
    return Path(shutil.copytree(BUNDLE, tmp_path / "bundle"))


@pytest.fixture
def images(shared: Callable[[str], Path], tmp_path: Path) -> Path:
    """Cases to validate, under the names that nnU-Net wants and bundles take."""
    folder = tmp_path / "images"
    folder.mkdir()
    for case in CASES:
        shutil.copy(shared(f"data/Task04_Hippocampus/imagesTr/{case}.nii.gz"), folder / f"{case}_0000.nii.gz")
    return folder


def test_it_knows_what_it_was_trained_on() -> None:
    known = trained_on(BUNDLE)
    assert (known["fold"], known["seed"], len(set(known["training"]))) == (0, 0, 160)
    assert not set(CASES) & set(known["training"])


def test_it_stays_small() -> None:
    sizes = {path.name: path.stat().st_size for path in BUNDLE.rglob("*") if path.is_file()}
    assert sum(sizes.values()) < MAX_BYTES
    assert sizes["model.pt"] > 1_000_000


def test_weights_fit_and_are_numbers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    network = load(BUNDLE.name, bundle_dir=BUNDLE.parent, workflow_type="inference")
    assert isinstance(network, SCDUNETR)
    assert parameters(network) < 2_000_000
    state = torch.load(BUNDLE / "models" / "model.pt", weights_only=True)
    assert set(state) == set(network.state_dict())
    for name, value in network.state_dict().items():
        assert torch.equal(value, state[name])
        assert value.isfinite().all(), name
    image = torch.rand(1, *network.image_shape)
    logits = network.eval()(image)
    assert logits.shape == (1, 3, *network.image_shape[1:])
    # weights that learned nothing would say the same everywhere
    assert logits.std() > 0.1


def test_it_is_the_general_bundle_with_what_it_was_trained_with(tmp_path: Path) -> None:
    train = config(BUNDLE, "train")
    file = Path(shutil.copy(GENERAL / "configs" / "train.json", tmp_path))
    write_defaults(file, {**OPTIONS, "keep_ratio": train["keep_ratio"]})
    assert json.loads(file.read_text(encoding="utf-8")) == train
    for name in ("evaluate", "multi_gpu_train", "multi_gpu_evaluate"):
        assert config(BUNDLE, name) == config(GENERAL, name), name
    learned = ("network_def", "img_size", "spacing", "label_values", "regions_order", "intensity")
    general, own = config(GENERAL, "inference"), config(BUNDLE, "inference")
    assert {**general, **{name: own[name] for name in learned}} == own
    assert own["network_def"]["keep_ratio"] == train["keep_ratio"]


def test_ratios_are_counted_in_the_cases_to_train(volumes: Any, tmp_path: Path) -> None:
    """Blocks of 6 x 10 x 11 voxels fill few of the tokens; more of them, more tokens."""
    few, many = (
        counted_ratios(volumes.plain(tmp_path / name, num_cases=5, values=values))
        for name, values in (("few", (1,)), ("many", (1, 2, 3)))
    )
    assert len(few) == 4
    assert all(0.1 <= less <= more <= 0.75 for less, more in zip(few, many))
    assert sum(few) < sum(many)


def test_metadata_says_what_was_measured() -> None:
    metadata = config(BUNDLE, "metadata")
    found = metadata["eval_metrics"]
    assert found["val_mean_dice"] == pytest.approx(
        (found["val_dice_anterior"] + found["val_dice_posterior"]) / 2, abs=1e-3
    )
    readme = (BUNDLE / "docs" / "README.md").read_text(encoding="utf-8")
    assert all(f"{value:.3f}" in readme for value in found.values())
    assert "CC BY-SA 4.0" in (BUNDLE / "docs" / "data_license.txt").read_text(encoding="utf-8")


@pytest.mark.filterwarnings("ignore")
def test_it_segments(bundle: Path, images: Path, shared: Callable[[str], Path]) -> None:
    run(config_file=str(bundle / "configs" / "inference.json"), bundle_root=str(bundle), dataset_dir=str(images))
    for case in CASES:
        (result,) = (bundle / "eval").glob(f"{case}*_seg.nii.gz")
        assert mean_dice(result, shared(f"data/Task04_Hippocampus/labelsTr/{case}.nii.gz")) > LEAST_DICE


@pytest.mark.slow
def test_it_segments_in_nnunet_too(bundle: Path, images: Path, shared: Callable[[str], Path], tmp_path: Path) -> None:
    model, output = tmp_path / "model", tmp_path / "out"
    moved = CliRunner().invoke(app, ["bridge", "to-nnunet", str(bundle), str(model)])
    assert moved.exit_code == 0, moved.stderr
    done = CliRunner().invoke(
        app, ["predict", "-i", str(images), "-o", str(output), "-m", str(model), "-f", "0", "--device", "cpu"]
    )
    assert done.exit_code == 0, done.stderr
    for case in CASES:
        truth = shared(f"data/Task04_Hippocampus/labelsTr/{case}.nii.gz")
        assert mean_dice(output / f"{case}.nii.gz", truth) > LEAST_DICE
