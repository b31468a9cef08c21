"""nnU-Net's own integration scenario with SCD: regions, ignore label, low resolution, cascade, ensembles.

nnU-Net derives data sets 996 (regions and ignore label), 997 (regions), 998 (ignore label) and 999 (plain) from the
hippocampus. The whole of it is `make integration`; a slice runs with the other tests.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from batchgenerators.utilities.file_and_folder_operations import load_pickle

from scd_plugin.nnunet.model.checkpoint import read_checkpoint

pytestmark = pytest.mark.slow

TRAINER = "nnUNetTrainerSCD_integration"
OWN_TRAINER = f"""
from scd_plugin.nnunet.trainers import nnUNetTrainerSCD_demo


class {TRAINER}(nnUNetTrainerSCD_demo):
    scd_num_epochs = 2
    scd_keep_ratio = 0.5

    def on_train_start(self):
        super().on_train_start()
        self.num_iterations_per_epoch = 2
        self.num_val_iterations_per_epoch = 1
        # a prediction for each window in place of eight
        self.inference_allowed_mirroring_axes = None
"""
CONFIGURATIONS = ("2d", "3d_fullres", "3d_lowres", "3d_cascade_fullres")
SCRIPTS = {
    "996": "Dataset996_IntegrationTest_Hippocampus_regions_ignore",
    "997": "Dataset997_IntegrationTest_Hippocampus_regions",
    "998": "Dataset998_IntegrationTest_Hippocampus_ignore",
    "999": "Dataset999_IntegrationTest_Hippocampus",
}
REGIONS = ("996", "997")
NUM_LABELS = {"996": 2, "997": 2, "998": 1, "999": 2}
NUM_TEST_CASES = 2


class Scenario:
    """One data set through every step, with a given number of folds."""

    def __init__(self, nnunet: Any, dataset: str, folds: Iterable[int]) -> None:
        self.nnunet = nnunet
        self.dataset = dataset
        self.name = SCRIPTS[dataset]
        self.folds = [str(fold) for fold in folds]
        self.num_folds = 5
        self.raw = nnunet.root / "nnUNet_raw" / self.name
        self.results = nnunet.root / "nnUNet_results" / self.name

    def model(self, configuration: str) -> Path:
        return self.results / f"{TRAINER}__nnUNetPlans__{configuration}"

    @property
    def labels(self) -> dict[str, Any]:
        """Names and values, regions as lists, without background and ignore label."""
        labels: dict[str, Any] = json.loads((self.raw / "dataset.json").read_text())["labels"]
        return {name: value for name, value in labels.items() if name not in ("background", "ignore")}

    def script(self, module: str, *words: str) -> None:
        command = [sys.executable, "-m", f"nnunetv2.{module}", *words]
        done = subprocess.run(command, env=self.nnunet.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]

    def prepare(self) -> None:
        self.script(f"dataset_conversion.datasets_for_integration_tests.{self.name}")
        self.nnunet.run("nnUNetv2_extract_fingerprint", "-d", self.dataset, "-np", "2", "--verify_dataset_integrity")
        self.nnunet.run("nnUNetv2_plan_experiment", "-d", self.dataset)
        self.script("tests.integration_tests.add_lowres_and_cascade", "-d", self.dataset)
        self.nnunet.run(
            "nnUNetv2_preprocess", "-d", self.dataset, "-c", "2d", "3d_lowres", "3d_fullres", "-np", "2", "2", "2"
        )

    def train(self, configuration: str, fold: str) -> None:
        self.nnunet.run("nnUNetv2_train", self.dataset, configuration, fold, "-tr", TRAINER, "--npz", "-device", "cpu")

    def split_in_two(self) -> None:
        """Two folds in place of five: the cascade trains on what all folds of the low resolution predicted."""
        self.num_folds = 2
        cases = sorted(path.name.removesuffix(".nii.gz") for path in (self.raw / "labelsTr").iterdir())
        folds = [{"train": cases[1::2], "val": cases[::2]}, {"train": cases[::2], "val": cases[1::2]}]
        preprocessed = self.nnunet.root / "nnUNet_preprocessed" / self.name
        (preprocessed / "splits_final.json").write_text(json.dumps(folds))

    def train_all(self) -> None:
        jobs = [("3d_lowres", str(fold)) for fold in range(self.num_folds)]
        jobs += [(configuration, fold) for configuration in ("2d", "3d_fullres") for fold in self.folds]
        # the first training writes the splits where there are none
        self.train(*jobs.pop())
        # two at a time: a thread each, or they fight for the two cores
        self.nnunet.variables.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda job: self.train(*job), jobs))
            list(pool.map(lambda fold: self.train("3d_cascade_fullres", fold), self.folds))
        del self.nnunet.variables["OMP_NUM_THREADS"], self.nnunet.variables["OMP_WAIT_POLICY"]

    def find_best(self) -> dict[str, Any]:
        self.nnunet.run(
            "nnUNetv2_find_best_configuration", self.dataset, "-c", *CONFIGURATIONS, "-tr", TRAINER, "-f", *self.folds,
            "-np", "2",
        )  # fmt: skip
        information: dict[str, Any] = json.loads((self.results / "inference_information.json").read_text())
        return information

    def predict(self, configuration: str) -> Path:
        output = self.nnunet.root / f"predicted_{self.dataset}_{configuration}"
        previous: list[str] = []
        if configuration == "3d_cascade_fullres":
            previous = ["-prev_stage_predictions", str(self.nnunet.root / f"predicted_{self.dataset}_3d_lowres")]
        self.nnunet.run(
            "nnUNetv2_predict", "-i", str(self.raw / "imagesTs"), "-o", str(output), "-d", self.dataset,
            "-c", configuration, "-tr", TRAINER, "-f", *self.folds, "--save_probabilities", "-device", "cpu",
            "-npp", "0", "-nps", "0", *previous,
        )  # fmt: skip
        return output

    @property
    def num_channels(self) -> int:
        """Of probabilities: one map for each region; for labels, background as well."""
        return len(self.labels) + (self.dataset not in REGIONS)

    def label_map(self, probabilities: np.ndarray) -> np.ndarray:
        if self.dataset not in REGIONS:
            return probabilities.argmax(0)
        label_map = np.zeros(probabilities.shape[1:])
        order = json.loads((self.raw / "dataset.json").read_text())["regions_class_order"]
        for value, region in zip(order, probabilities, strict=True):
            label_map[region > 0.5] = value
        return label_map

    def check_predictions(self, folder: Path, members: Sequence[Path] = ()) -> None:
        """Label maps that lie where their images do, and follow from the probabilities, those of `members` averaged."""
        images = sorted((self.raw / "imagesTs").iterdir())
        assert len(images) == NUM_TEST_CASES
        for image in images:
            case = image.name.removesuffix("_0000.nii.gz")
            truth, prediction = sitk.ReadImage(str(image)), sitk.ReadImage(str(folder / f"{case}.nii.gz"))
            assert prediction.GetSize() == truth.GetSize()
            assert prediction.GetSpacing() == pytest.approx(truth.GetSpacing())
            assert prediction.GetOrigin() == pytest.approx(truth.GetOrigin())
            assert prediction.GetDirection() == pytest.approx(truth.GetDirection())
            voxels = sitk.GetArrayFromImage(prediction)
            # the ignore label is never predicted
            assert set(np.unique(voxels)) <= {0, *np.hstack(list(self.labels.values())).tolist()}
            maps = [np.load(member / f"{case}.npz")["probabilities"] for member in members or [folder]]
            for values in maps:
                assert values.shape == (self.num_channels, *voxels.shape)
                assert values.std() > 0.01
                assert values.min() >= 0
                assert values.max() <= 1
                assert self.dataset in REGIONS or values.sum(0) == pytest.approx(1, abs=1e-5)
            np.testing.assert_array_equal(voxels, self.label_map(np.mean(maps, axis=0)))

    def check_postprocessed(self, folder: Path, before: Path, rules: Path) -> None:
        for path in sorted(before.glob("*.nii.gz")):
            expected = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
            for function, arguments in zip(*load_pickle(str(rules)), strict=True):
                expected = function(expected, **arguments)
            voxels = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / path.name)))
            np.testing.assert_array_equal(voxels, expected)

    def check_trainings(self) -> None:
        for configuration in CONFIGURATIONS:
            for fold in self.folds:
                folder = self.model(configuration) / f"fold_{fold}"
                summary = json.loads((folder / "validation" / "summary.json").read_text())
                keys = {str(tuple(value) if isinstance(value, list) else value) for value in self.labels.values()}
                assert set(summary["mean"]) == keys
                probabilities = sorted((folder / "validation").glob("*.npz"))
                assert len(probabilities) == len(summary["metric_per_case"])
                with np.load(probabilities[0]) as file:
                    assert file["probabilities"].shape[0] == self.num_channels
                weights = read_checkpoint(str(folder / "checkpoint_final.pth"), needs=["network_weights"])
                channels = weights["network_weights"]["encoder.patch_embed.weight"].shape[1]
                # of the earlier stage's labels the cascade gets one channel each
                assert channels == 1 + (configuration == "3d_cascade_fullres") * NUM_LABELS[self.dataset]
                assert all(torch.isfinite(value).all() for value in weights["network_weights"].values())


@pytest.fixture(scope="module")
def with_hippocampus(nnunet: Any, hippocampus: Path) -> Any:
    """nnU-Net's folders with Dataset004_Hippocampus, two cases of it to predict, and our trainer."""
    own = nnunet.root / "own_trainers"
    own.mkdir()
    (own / "integration.py").write_text(OWN_TRAINER)
    nnunet.variables["nnUNet_extTrainer"] = str(own)
    nnunet.run("nnUNetv2_convert_MSD_dataset", "-i", str(hippocampus), "-np", "2")
    raw = nnunet.root / "nnUNet_raw" / "Dataset004_Hippocampus"
    for image in sorted((raw / "imagesTr").iterdir())[:NUM_TEST_CASES]:
        (raw / "imagesTs").mkdir(exist_ok=True)
        (raw / "imagesTs" / image.name).write_bytes(image.read_bytes())
    return nnunet


def run(scenario: Scenario) -> None:
    nnunet, dataset = scenario.nnunet, scenario.dataset
    scenario.train_all()
    scenario.check_trainings()

    information = scenario.find_best()
    best = information["best_model_or_ensemble"]
    chosen = [model["configuration"] for model in best["selected_model_or_models"]]
    assert [model["configuration"] for model in information["considered_models"]] == list(CONFIGURATIONS)
    # four configurations and six pairs of them
    assert len(information["all_results"]) == 10
    assert best["result_on_crossval_pre_pp"] == max(information["all_results"].values())
    rules = Path(best["postprocessing_file"])
    assert rules.is_file()

    # the cascade starts from what the low resolution predicts
    outputs = {configuration: scenario.predict(configuration) for configuration in sorted(CONFIGURATIONS, reverse=True)}
    for output in outputs.values():
        scenario.check_predictions(output)
    # where a single model is best, another pair shows that ensembles work
    pair = [outputs[configuration] for configuration in (chosen if len(chosen) == 2 else ("2d", "3d_fullres"))]
    ensemble = nnunet.root / f"ensemble_{dataset}"
    nnunet.run("nnUNetv2_ensemble", "-i", *map(str, pair), "-o", str(ensemble), "-np", "1")
    scenario.check_predictions(ensemble, members=pair)

    result = ensemble if len(chosen) == 2 else outputs[chosen[0]]
    processed = nnunet.root / f"processed_{dataset}"
    nnunet.run(
        "nnUNetv2_apply_postprocessing", "-i", str(result), "-o", str(processed), "-pp_pkl_file", str(rules),
        "-plans_json", best["some_plans_file"], "-np", "1",
    )  # fmt: skip
    scenario.check_postprocessed(processed, result, rules)


def test_slice(with_hippocampus: Any) -> None:
    """The data set with everything in it; two of them took a fifth of all tests' time."""
    scenario = Scenario(with_hippocampus, "996", folds=(0,))
    scenario.prepare()
    scenario.split_in_two()
    run(scenario)


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_says_what_is_missing(tmp_path: Path) -> None:
    command = ["make", "-C", str(Path(__file__).parents[2]), "integration", f"SCD_SHARED={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert (
        f"needs data/Task04_Hippocampus of the Medical Segmentation Decathlon in SCD_SHARED={tmp_path};" in done.stderr
    )
    assert "pip" not in done.stdout


@pytest.mark.integration
@pytest.mark.parametrize("dataset", sorted(SCRIPTS))
def test_whole(with_hippocampus: Any, dataset: str) -> None:
    scenario = Scenario(with_hippocampus, dataset, folds=range(5))
    scenario.prepare()
    run(scenario)
