"""The rest of nnU-Net's commands, on one trained model."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch

pytest.importorskip("nnunetv2")

from nnunetv2.postprocessing.remove_connected_components import remove_all_but_largest_component_from_segmentation
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from scd_plugin.nnunet.trainers import nnUNetTrainerSCD_demo

pytestmark = pytest.mark.slow

FAST = ("-device", "cpu", "-npp", "1", "-nps", "1", "--disable_tta")
# a process that is spawned imports PyTorch anew, and `nnUNetv2_predict` can do without
IN_ONE_PROCESS = ("-device", "cpu", "-npp", "0", "-nps", "0", "--disable_tta")


def segmentations(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in sorted(folder.glob("*.nii.gz"))}


def assert_same(first: Path, second: Path) -> None:
    one, two = segmentations(first), segmentations(second)
    assert one.keys() == two.keys()
    assert len(one) == 2
    assert all(np.array_equal(one[name], two[name]) for name in one)


def probabilities(folder: Path) -> dict[str, np.ndarray]:
    return {path.stem: np.load(path)["probabilities"] for path in sorted(folder.glob("*.npz"))}


def change_output(checkpoint: Path, bias: list[float], factor: float = 1.0) -> None:
    """Add to the last layer's bias, one number a class, and scale its weights."""
    content = torch.load(checkpoint, weights_only=False)
    content["network_weights"]["decoder.out.conv.conv.bias"] += torch.tensor(bias)
    content["network_weights"]["decoder.out.conv.conv.weight"] *= factor
    torch.save(content, checkpoint)


def predict(trained: Any, output: Path, *words: str, how: tuple[str, ...] = IN_ONE_PROCESS) -> Path:
    trained.nnunet.run(
        "nnUNetv2_predict", "-i", str(trained.images), "-o", str(output), "-d", "4", "-c", "3d_fullres", "-f", "0",
        "-tr", trained.trainer, *how, *words,
    )  # fmt: skip
    return output


@pytest.fixture
def short(trained: Any) -> Iterator[None]:
    """For trainings whose length does not matter."""
    trained.nnunet.variables["SHORT"] = "yes"
    yield
    del trained.nnunet.variables["SHORT"]


@pytest.fixture(scope="module")
def predicted(trained: Any) -> Path:
    return predict(trained, trained.nnunet.root / "predicted", how=FAST)


def validate(trained: Any, *words: str) -> Path:
    validation: Path = trained.model / "fold_0" / "validation"
    for path in validation.glob("*"):
        path.unlink()
    trained.nnunet.run(
        "nnUNetv2_train", "4", "3d_fullres", "0", "-tr", trained.trainer, "-device", "cpu", "--val", "--npz", *words
    )
    cases = json.loads((validation / "summary.json").read_text())["metric_per_case"]
    assert len(cases) == len(list(validation.glob("*.npz"))) == len(segmentations(validation)) == 2
    return validation


def test_validation_alone(trained: Any) -> None:
    """With the last checkpoint, or with the best one: here class 1 wins everywhere in that."""
    best = trained.model / "fold_0" / "checkpoint_best.pth"
    saved = best.read_bytes()
    change_output(best, bias=[0, 1000, 0])
    try:
        by_best = segmentations(validate(trained, "--val_best"))
    finally:
        best.write_bytes(saved)
    assert all(set(np.unique(label_map)) == {1} for label_map in by_best.values())
    by_last = segmentations(validate(trained))
    assert by_last.keys() == by_best.keys()
    assert all((label_map != 1).any() for label_map in by_last.values())


@pytest.mark.usefixtures("short")
def test_own_planner(trained: Any) -> None:
    said = trained.nnunet.run("nnUNetv2_plan_experiment", "-d", "4", "-pl", "nnUNetPlannerSCD_tiny")
    preprocessed = trained.nnunet.root / "nnUNet_preprocessed" / "Dataset004_Hippocampus"
    plans = json.loads((preprocessed / "nnUNetPlansSCD_tiny.json").read_text())
    configuration = plans["configurations"]["3d_fullres"]
    # ten small cases: the smallest batch is 5 % of them already
    assert (configuration["patch_size"], configuration["batch_size"]) == ([40, 56, 40], 2)
    # of ten hippocampi a tenth of the tokens hold foreground
    keep_ratio = configuration["architecture"]["arch_kwargs"]["keep_ratio"]
    assert 0.4 < keep_ratio < 0.5
    assert f"3d_fullres: keep_ratio {keep_ratio}, {keep_ratio}, {keep_ratio}\n" in said
    # trained on the data that were preprocessed for nnU-Net's own plans
    what = ("4", "3d_fullres", "0", "-p", "nnUNetPlansSCD_tiny", "-device", "cpu", "-tr")
    refused = trained.nnunet.start("nnUNetv2_train", *what, trained.trainer)
    why = refused.communicate(timeout=300)[0]
    assert f"keep_ratio is {keep_ratio} in the plans and 0.5 in {trained.trainer}" in why
    assert refused.returncode != 0
    trainer = trained.trainer_of_plans
    trained.nnunet.run("nnUNetv2_train", *what, trainer)
    model = trained.model.parent / f"{trainer}__nnUNetPlansSCD_tiny__3d_fullres"
    kept = json.loads((model / "plans.json").read_text())
    assert kept["configurations"]["3d_fullres"]["architecture"].pop("trained_by") == trainer
    assert kept == plans
    summary = json.loads((model / "fold_0" / "validation" / "summary.json").read_text())
    assert len(summary["metric_per_case"]) == 2
    output = predict(trained, trained.nnunet.root / "predicted_own_plans", "-p", "nnUNetPlansSCD_tiny", "-tr", trainer)
    assert len(segmentations(output)) == 2


@pytest.mark.usefixtures("short")
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


@pytest.mark.usefixtures("short")
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
        output = predict(trained, trained.nnunet.root / "predicted_resenc", "-p", plans)
        assert len(segmentations(output)) == 2


def test_parts_make_the_whole(trained: Any, predicted: Path) -> None:
    output = trained.nnunet.root / "predicted_in_parts"
    for part in ("0", "1"):
        # in one process nnU-Net knows no parts
        predict(trained, output, "-num_parts", "2", "-part_id", part, how=FAST)
        assert len(segmentations(output)) == int(part) + 1
    assert_same(output, predicted)


def test_from_the_model_folder(trained: Any, predicted: Path) -> None:
    output = trained.nnunet.root / "predicted_from_folder"
    trained.nnunet.run(
        "nnUNetv2_predict_from_modelfolder", "-i", str(trained.images), "-o", str(output), "-m", str(trained.model),
        "-f", "0", *FAST,
    )  # fmt: skip
    assert_same(output, predicted)


@pytest.fixture(scope="module")
def by_folds(trained: Any) -> dict[str, Path]:
    """What fold 0, a fold 1 of other weights, and both together predict."""
    root = trained.nnunet.root / "two_folds"
    model = root / trained.model.name
    shutil.copytree(trained.model, model)
    shutil.copytree(model / "fold_0", model / "fold_1")
    change_output(model / "fold_1" / "checkpoint_final.pth", bias=[0, 0.5, -0.5], factor=-2)
    outputs = {folds: root / folds for folds in ("0", "1", "0 1")}
    for folds, output in outputs.items():
        trained.nnunet.run(
            "nnUNetv2_predict_from_modelfolder", "-i", str(trained.images), "-o", str(output), "-m", str(model),
            "-f", *folds.split(), "--save_probabilities", *FAST,
        )  # fmt: skip
    return outputs


def assert_label_maps_are_argmax(folder: Path) -> None:
    maps = segmentations(folder)
    assert len(maps) == 2
    for name, values in probabilities(folder).items():
        np.testing.assert_array_equal(maps[f"{name}.nii.gz"], values.argmax(0))


def test_folds_are_averaged(by_folds: dict[str, Path]) -> None:
    first, second, both = (probabilities(by_folds[folds]) for folds in ("0", "1", "0 1"))
    for name, values in both.items():
        # the mean of logits is the geometric mean of probabilities
        expected = np.sqrt(first[name] * second[name])
        np.testing.assert_allclose(values, expected / expected.sum(0), atol=5e-3)  # logits are float16
        assert abs(values - first[name]).max() > 0.1
        assert abs(values - second[name]).max() > 0.1
    assert_label_maps_are_argmax(by_folds["0 1"])


def test_ensemble_is_the_mean(trained: Any, by_folds: dict[str, Path]) -> None:
    output = trained.nnunet.root / "ensemble"
    trained.nnunet.run(
        "nnUNetv2_ensemble", "-i", str(by_folds["0"]), str(by_folds["1"]), "-o", str(output), "-np", "1", "--save_npz"
    )
    first, second = probabilities(by_folds["0"]), probabilities(by_folds["1"])
    for name, values in probabilities(output).items():
        np.testing.assert_allclose(values, (first[name] + second[name]) / 2, atol=1e-6)
    assert_label_maps_are_argmax(output)


def test_postprocessing_removes_the_small_blob(trained: Any, volumes: Any, tmp_path: Path) -> None:
    label_map = np.zeros((20, 22, 24), np.uint8)
    label_map[2:10, 2:10, 2:10] = 1
    label_map[4:8, 4:8, 4:8] = 2
    largest = label_map.copy()
    label_map[15:18, 15:18, 15:18] = 1
    volumes.write(tmp_path / "before" / "case.nii.gz", label_map, spacing=(1.0, 2.0, 3.0))
    rule = tmp_path / "postprocessing.pkl"
    keep_largest = ([remove_all_but_largest_component_from_segmentation], [{"labels_or_regions": [1, 2]}])
    rule.write_bytes(pickle.dumps(keep_largest))
    trained.nnunet.run(
        "nnUNetv2_apply_postprocessing", "-i", str(tmp_path / "before"), "-o", str(tmp_path / "after"),
        "-pp_pkl_file", str(rule), "-plans_json", str(trained.model / "plans.json"),
        "-dataset_json", str(trained.model / "dataset.json"), "-np", "1",
    )  # fmt: skip
    after = sitk.ReadImage(str(tmp_path / "after" / "case.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(after), largest)
    assert after.GetSpacing() == pytest.approx((1.0, 2.0, 3.0))


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
        "-c", "3d_fullres", "-f", "0", "-tr", trained.trainer, *IN_ONE_PROCESS,
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

    def test_constant_image(self, predictor: Any) -> None:
        assert set(np.unique(self.predict(predictor, np.zeros((40, 40, 40))))) <= {0, 1, 2}
