"""The rest of nnU-Net's commands, on one trained model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch

pytest.importorskip("nnunetv2")

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from scd_plugin.nnunet.trainers import nnUNetTrainerSCD_demo

pytestmark = pytest.mark.slow

FAST = ("-device", "cpu", "-npp", "1", "-nps", "1", "--disable_tta")


def segmentations(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in sorted(folder.glob("*.nii.gz"))}


def assert_same(first: Path, second: Path) -> None:
    one, two = segmentations(first), segmentations(second)
    assert one.keys() == two.keys()
    assert len(one) == 2
    assert all(np.array_equal(one[name], two[name]) for name in one)


@pytest.fixture(scope="module")
def predicted(trained: Any) -> Path:
    output: Path = trained.nnunet.root / "predicted"
    trained.nnunet.run(
        "nnUNetv2_predict", "-i", str(trained.images), "-o", str(output), "-d", "4", "-c", "3d_fullres", "-f", "0",
        "-tr", trained.trainer, *FAST,
    )  # fmt: skip
    return output


@pytest.mark.parametrize("which", ["--val", "--val_best"])
def test_validation_alone(trained: Any, which: str) -> None:
    validation = trained.model / "fold_0" / "validation"
    for path in validation.glob("*"):
        path.unlink()
    words = ("--val", "--npz") if which == "--val" else ("--val", "--val_best", "--npz")
    trained.nnunet.run("nnUNetv2_train", "4", "3d_fullres", "0", "-tr", trained.trainer, "-device", "cpu", *words)
    cases = json.loads((validation / "summary.json").read_text())["metric_per_case"]
    assert len(cases) == len(list(validation.glob("*.npz"))) == 2


def test_pretrained_weights_on_another_patch_size(trained: Any) -> None:
    folder = trained.nnunet.root / "nnUNet_preprocessed" / "Dataset004_Hippocampus"
    plans = json.loads((folder / "nnUNetPlans.json").read_text())
    old = plans["configurations"]["3d_fullres"]["patch_size"]
    plans["configurations"]["3d_fullres"]["patch_size"] = [32, 48, 32]
    plans["plans_name"] = "nnUNetPlansOther"
    (folder / "nnUNetPlansOther.json").write_text(json.dumps(plans))
    output = trained.nnunet.run(
        "nnUNetv2_train", "4", "3d_fullres", "0", "-tr", trained.trainer, "-p", "nnUNetPlansOther", "-device", "cpu",
        "-pretrained_weights", str(trained.model / "fold_0" / "checkpoint_final.pth"), "--disable_checkpointing",
    )  # fmt: skip
    before = tuple(edge // 4 for edge in old)
    assert f"adapted: positions interpolated from {before} to (8, 12, 8) tokens" in output
    model = trained.model.parent / f"{trained.trainer}__nnUNetPlansOther__3d_fullres"
    assert (model / "fold_0" / "validation" / "summary.json").exists()
    assert list(model.rglob("*.pth*")) == []


@pytest.mark.parametrize("size", ["M", "L", "XL"])
def test_resenc_presets(trained: Any, size: str) -> None:
    """Planned by nnU-Net's residual encoder presets; L is trained and predicted with as well."""
    trained.nnunet.run("nnUNetv2_plan_experiment", "-d", "4", "-pl", f"nnUNetPlannerResEnc{size}")
    plans = f"nnUNetResEncUNet{size}Plans"
    preprocessed = trained.nnunet.root / "nnUNet_preprocessed" / "Dataset004_Hippocampus"
    manager = PlansManager(json.loads((preprocessed / f"{plans}.json").read_text()))
    for name in ("2d", "3d_fullres"):
        configuration = manager.get_configuration(name)
        assert "ResidualEncoder" in configuration.network_arch_class_name
        network = nnUNetTrainerSCD_demo.build_network_architecture(manager, configuration, 1, 3, False)
        logits = network(torch.zeros(2, 1, *configuration.patch_size))
        assert logits.shape == (2, 3, *configuration.patch_size)
    if size == "L":
        what = ("-tr", trained.trainer, "-p", plans)
        trained.nnunet.run("nnUNetv2_preprocess", "-d", "4", "-plans_name", plans, "-c", "3d_fullres", "-np", "1")
        trained.nnunet.run("nnUNetv2_train", "4", "3d_fullres", "0", *what, "-device", "cpu")
        output = trained.nnunet.root / "predicted_resenc"
        trained.nnunet.run(
            "nnUNetv2_predict", "-i", str(trained.images), "-o", str(output), "-d", "4", "-c", "3d_fullres", "-f", "0",
            *what, *FAST,
        )  # fmt: skip
        assert len(segmentations(output)) == 2


def test_parts_make_the_whole(trained: Any, predicted: Path) -> None:
    output = trained.nnunet.root / "predicted_in_parts"
    for part in ("0", "1"):
        trained.nnunet.run(
            "nnUNetv2_predict", "-i", str(trained.images), "-o", str(output), "-d", "4", "-c", "3d_fullres", "-f", "0",
            "-tr", trained.trainer, "-num_parts", "2", "-part_id", part, *FAST,
        )  # fmt: skip
        assert len(segmentations(output)) == int(part) + 1
    assert_same(output, predicted)


def test_from_the_model_folder(trained: Any, predicted: Path) -> None:
    output = trained.nnunet.root / "predicted_from_folder"
    trained.nnunet.run(
        "nnUNetv2_predict_from_modelfolder", "-i", str(trained.images), "-o", str(output), "-m", str(trained.model),
        "-f", "0", *FAST,
    )  # fmt: skip
    assert_same(output, predicted)


def test_export_to_a_clean_machine(trained: Any, predicted: Path) -> None:
    nnunet = trained.nnunet
    archive = nnunet.root / "model.zip"
    nnunet.run(
        "nnUNetv2_export_model_to_zip", "-d", "4", "-o", str(archive), "-c", "3d_fullres", "-tr", trained.trainer,
        "-f", "0",
    )  # fmt: skip
    elsewhere = type(nnunet)(nnunet.root / "elsewhere")
    elsewhere.variables["nnUNet_extTrainer"] = nnunet.variables["nnUNet_extTrainer"]
    elsewhere.run("nnUNetv2_install_pretrained_model_from_zip", str(archive))
    output = elsewhere.root / "predicted"
    elsewhere.run(
        "nnUNetv2_predict", "-i", str(trained.images), "-o", str(output), "-d", "Dataset004_Hippocampus",
        "-c", "3d_fullres", "-f", "0", "-tr", trained.trainer, *FAST,
    )  # fmt: skip
    assert_same(output, predicted)


@pytest.fixture(scope="module")
def predictor(trained: Any) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in trained.nnunet.variables.items():
            patch.setenv(name, value)
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

        predictor = nnUNetPredictor(device=torch.device("cpu"), use_mirroring=False, allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(str(trained.model), use_folds=(0,))
        yield predictor


class TestPredictorInPython:
    def predict(self, predictor: Any, image: np.ndarray) -> np.ndarray:
        properties = {"spacing": [1.0, 1.0, 1.0]}
        result: np.ndarray = predictor.predict_single_npy_array(image[None].astype(np.float32), properties, None, None)
        return result

    def test_gives_what_the_command_gives(self, trained: Any, predictor: Any, predicted: Path) -> None:
        image = sorted(trained.images.iterdir())[0]
        voxels = sitk.GetArrayFromImage(sitk.ReadImage(str(image)))
        expected = segmentations(predicted)[image.name.replace("_0000", "")]
        assert np.array_equal(self.predict(predictor, voxels), expected)

    @pytest.mark.parametrize("size", [(9, 12, 10), (70, 20, 33)], ids=["smaller than the crop", "larger on one axis"])
    def test_any_size(self, predictor: Any, size: tuple[int, ...]) -> None:
        image = np.random.default_rng(0).normal(size=size)
        assert self.predict(predictor, image).shape == size

    def test_not_a_number_is_reported(self, predictor: Any, capsys: pytest.CaptureFixture[str]) -> None:
        image = np.random.default_rng(0).normal(size=(40, 40, 40))
        image[3, 3, 3] = np.nan
        assert self.predict(predictor, image).shape == image.shape
        assert "WARNING: channels [0] of this case hold NaN or infinite voxels" in capsys.readouterr().out

    def test_constant_image(self, predictor: Any) -> None:
        assert set(np.unique(self.predict(predictor, np.zeros((40, 40, 40))))) <= {0, 1, 2}
