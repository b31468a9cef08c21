"""SCDRunner against what MONAI's nnU-Net runner lacks; no training runs here (tests/e2e/test_runner.py)."""

from __future__ import annotations

import inspect
import json
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("nnunetv2")
pytest.importorskip("monai", minversion="1.6", reason="SCDRunner refuses MONAI before 1.6")

from monai.apps.nnunet import nnunet_bundle, nnUNetV2Runner
from nnunetv2.inference import predict_from_raw_data
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from scd_plugin.monai.runner import SCDRunner

DATASET = "Dataset004_Heads"


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # the runner sets these for good
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, os.environ.get(name, "0"))
    monkeypatch.chdir(tmp_path)


def make_runner(runner: type = SCDRunner, **arguments: Any) -> Any:
    """A runner whose data set is planned: 2d and 3d_fullres."""
    folder = Path("work_dir/nnUNet_preprocessed") / DATASET
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "nnUNetPlans.json").write_text(json.dumps({"configurations": {"2d": {}, "3d_fullres": {}}}))
    return runner({"dataset_name_or_id": 4, **arguments.pop("config", {})}, **arguments)


def fake_training(monkeypatch: pytest.MonkeyPatch, folder: Path, code: str) -> None:
    """A command of nnU-Net's name beside the running Python; `code` sees its arguments as `words`."""
    folder.mkdir()
    command = folder / "nnUNetv2_train"
    command.write_text(f"#!{sys.executable}\nimport sys\nfrom pathlib import Path\nwords = sys.argv[1:]\n{code}\n")
    command.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))


WRITES_CHECKPOINT = """
model = Path("work_dir/nnUNet_trained_models/Dataset004_Heads") / f"nnUNetTrainerSCD__nnUNetPlans__{words[1]}"
folder = model / f"fold_{words[2]}"
folder.mkdir(parents=True)
(folder / "training_log_1.txt").write_text(" ".join(words))
(folder / "checkpoint_final.pth").touch()
"""
FAILS_IN_FOLD_1 = f"""
{WRITES_CHECKPOINT}
if words[2] == "1":
    (folder / "checkpoint_final.pth").unlink()
    sys.exit(3)
"""
ENDS_WITHOUT_CHECKPOINT = "print('nothing to do')"


class TestArguments:
    def test_as_monais_with_our_trainer(self) -> None:
        ours, hosts = (list(inspect.signature(runner).parameters.values()) for runner in (SCDRunner, nnUNetV2Runner))
        assert [parameter.name for parameter in ours[: len(hosts)]] == [parameter.name for parameter in hosts]
        assert make_runner().trainer_class_name == "nnUNetTrainerSCD"

    def test_the_callers_dict_is_left_as_it_is(self) -> None:
        config = {"dataset_name_or_id": 4, "nnunet_raw": "raw"}
        SCDRunner(config)
        assert config == {"dataset_name_or_id": 4, "nnunet_raw": "raw"}

    def test_device_is_cuda_where_there_is_one(self) -> None:
        assert make_runner().device == ("cuda" if torch.cuda.is_available() else "cpu")

    def test_unknown_device(self) -> None:
        with pytest.raises(ValueError, match=r"device must be one of cuda, cpu, mps; got 'cuda:1'. A GPU is chosen"):
            make_runner(device="cuda:1")


class TestCommand:
    def test_device_in_nnunets_spelling(self) -> None:
        command, _ = make_runner(device="cpu").train_single_model_command("2d", 0, 0, {"c": True, "p": "MyPlans"})
        assert command == [
            "nnUNetv2_train", "4", "2d", "0", "-tr", "nnUNetTrainerSCD", "-num_gpus", "1", "--npz", "--c",
            "-p", "MyPlans", "-device", "cpu",
        ]  # fmt: skip

    def test_device_of_one_training(self) -> None:
        command, _ = make_runner(device="cpu").train_single_model_command("2d", 0, 0, {"device": "mps"})
        assert command[-2:] == ["-device", "mps"]
        assert "--device" not in command

    def test_monai_knows_no_device(self) -> None:
        """MONAI 1.6.1; if this fails, see SCDRunner.train_single_model_command."""
        command, _ = make_runner(nnUNetV2Runner).train_single_model_command("2d", 0, 0, {"device": "cpu"})
        assert command[-2:] == ["--device", "cpu"]

    def test_command_beside_python_comes_first(self) -> None:
        _, environment = make_runner().train_single_model_command("2d", 0, 0, {})
        assert environment["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)


class TestTraining:
    def test_all_planned_configurations_and_folds(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        fake_training(monkeypatch, tmp_path / "bin", WRITES_CHECKPOINT)
        runner = make_runner(device="cpu")
        runner.num_folds = 2
        runner.train()
        logs = Path("work_dir/nnUNet_trained_models").rglob("training_log_1.txt")
        assert sorted(log.read_text().split(" -tr")[0] for log in logs) == [
            "4 2d 0", "4 2d 1", "4 3d_fullres 0", "4 3d_fullres 1",
        ]  # fmt: skip

    def test_failure_names_configuration_fold_and_log(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        fake_training(monkeypatch, tmp_path / "bin", FAILS_IN_FOLD_1)
        runner = make_runner(device="cpu")
        with pytest.raises(
            RuntimeError,
            match=r"training of configuration 3d_fullres, fold 1, failed: nnUNetv2_train ended with exit status 3. "
            r"Its log file is \S+__3d_fullres/fold_1/training_log_1.txt; the error itself is in the output above",
        ):
            runner.train()

    def test_end_without_checkpoint(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        fake_training(monkeypatch, tmp_path / "bin", ENDS_WITHOUT_CHECKPOINT)
        runner = make_runner()
        with pytest.raises(RuntimeError, match=r"status 0 and without checkpoint_final.pth. It began no log file in "):
            runner.train_single_model("2d", 0)
        runner.train_single_model("2d", 0, disable_checkpointing=True)

    def test_arguments_that_monai_drops(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        fake_training(monkeypatch, tmp_path / "bin", WRITES_CHECKPOINT)
        make_runner(device="cpu").train_single_model("2d", 0, tr="Other", num_gpus=2)
        log = next(Path("work_dir/nnUNet_trained_models").rglob("training_log_1.txt"))
        assert log.read_text() == "4 2d 0 -tr nnUNetTrainerSCD -num_gpus 1 --npz -device cpu"

    def test_several_gpus_end_before_the_failure_is_told(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        fake_training(monkeypatch, tmp_path / "bin", FAILS_IN_FOLD_1)
        runner = make_runner()
        runner.num_folds = 3
        # folds 0 and 2 on GPU 0, fold 1 on GPU 1
        with pytest.raises(RuntimeError, match="configuration 2d, fold 1, failed"):
            runner.train("2d", gpu_id_for_all=(0, 1))
        done = Path("work_dir/nnUNet_trained_models").rglob("checkpoint_final.pth")
        assert sorted(path.parent.name for path in done) == ["fold_0", "fold_2"]

    def test_configuration_that_is_not_planned(self) -> None:
        with pytest.raises(ValueError, match=r"nnUNetPlans.json has no configuration 3d_lowres; it has 2d, 3d_fullres"):
            make_runner().train(("2d", "3d_lowres"))

    def test_monai_trains_what_is_not_planned(self) -> None:
        """MONAI 1.6.1; if this fails, see SCDRunner.train."""
        assert "3d_lowres" in inspect.signature(nnUNetV2Runner.train).parameters["configs"].default

    def test_monai_does_not_see_a_failure(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """MONAI 1.6.1; if this fails, see SCDRunner.train_single_model and train_parallel."""
        fake_training(monkeypatch, tmp_path / "bin", "sys.exit(3)")
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
        runner = make_runner(nnUNetV2Runner)
        runner.train_single_model("2d", 0)
        runner.train_parallel("2d", (0, 1))


ABSENT = {"training": [{"image": "absent.nii.gz", "label": "absent.nii.gz"}], "test": ["absent.nii.gz"]}
CONFIG = {"dataroot": "heads", "datalist": "list.json", "modality": "MR", "dataset_name_or_id": 5}


class TestConversion:
    def test_failure_is_raised(self) -> None:
        Path("list.json").write_text(json.dumps(ABSENT))
        with pytest.raises(RuntimeError, match=r"data set 5 was not converted: Input config may be .*absent.nii.gz"):
            SCDRunner(CONFIG).convert_dataset()

    def test_data_list_without_training(self) -> None:
        Path("list.json").write_text("{}")
        with pytest.raises(RuntimeError, match="the `training` key is not found"):
            SCDRunner(CONFIG).convert_dataset()

    @pytest.mark.parametrize("rest", [{}, {"test": []}], ids=["absent", "empty"])
    def test_data_list_without_test_images(self, rest: dict[str, Any]) -> None:
        Path("list.json").write_text(json.dumps({"training": [{"image": "a.nii.gz", "label": "b.nii.gz"}], **rest}))
        with pytest.raises(ValueError, match=r"data list list.json has no test images, .* add an entry `test`"):
            SCDRunner(CONFIG).convert_dataset()
        assert not list(Path("work_dir/nnUNet_raw_data_base").iterdir())

    def test_monai_goes_on_without_data(self) -> None:
        """MONAI 1.6.1; if this fails, see SCDRunner.convert_dataset."""
        Path("list.json").write_text(json.dumps(ABSENT))
        nnUNetV2Runner(dict(CONFIG)).convert_dataset()

    def test_a_data_set_that_is_there_is_taken(self) -> None:
        folder = Path("work_dir/nnUNet_raw_data_base/Dataset005_heads")
        folder.mkdir(parents=True)
        runner = SCDRunner(CONFIG)
        runner.convert_dataset()
        assert runner.dataset_name == "Dataset005_heads"


class TestPrediction:
    class Seen(Exception):  # noqa: N818
        """Carries the device out of nnU-Net's predictor."""

    def predict(self, runner: Any, monkeypatch: pytest.MonkeyPatch) -> torch.device:
        def initialize(predictor: Any, **_: Any) -> None:
            raise self.Seen(predictor.device)

        own = predict_from_raw_data.nnUNetPredictor
        monkeypatch.setattr(own, "initialize_from_trained_model_folder", initialize)
        default = inspect.signature(own.__init__).parameters["device"].default
        monkeypatch.setattr(own, "__init__", lambda self, device=default, **_: setattr(self, "device", device))
        with pytest.raises(self.Seen) as seen:
            runner.predict("images", "output", "model")
        assert predict_from_raw_data.nnUNetPredictor is own
        device: torch.device = seen.value.args[0]
        return device

    def test_on_the_runners_device(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.predict(make_runner(device="cpu"), monkeypatch) == torch.device("cpu")

    def test_monai_knows_no_device(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """MONAI 1.6.1; if this fails, see SCDRunner.predict."""
        assert self.predict(make_runner(nnUNetV2Runner), monkeypatch) == torch.device("cuda")


class TestModelsInMonai:
    """MONAI 1.6.1; if these fail, docs/how-to/monai-nnunet-runner.md has something to take back."""

    def test_predictor_builds_networks_by_an_older_signature(self) -> None:
        wanted = list(inspect.signature(nnUNetTrainer.build_network_architecture).parameters)
        assert wanted[:2] == ["plans_manager", "configuration_manager"]
        assert "network_arch_init_kwargs_req_import," in inspect.getsource(nnunet_bundle.ModelnnUNetWrapper.__init__)

    def test_predictor_knows_one_device(self) -> None:
        assert list(inspect.signature(nnunet_bundle.get_nnunet_monai_predictor).parameters) == [
            "model_folder",
            "model_name",
        ]
        assert 'device=torch.device("cuda", 0)' in inspect.getsource(nnunet_bundle.get_nnunet_monai_predictor)

    def test_conversion_cannot_read_nnunets_checkpoints(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fold = Path("results") / DATASET / "nnUNetTrainerSCD__nnUNetPlans__3d_fullres" / "fold_0"
        fold.mkdir(parents=True)
        torch.save({"logging": {"train_losses": [np.float32(0.5)]}}, fold / "checkpoint_final.pth")
        monkeypatch.setenv("nnUNet_results", "results")
        with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
            nnunet_bundle.convert_nnunet_to_monai_bundle(
                {"dataset_name_or_id": DATASET, "nnunet_trainer": "nnUNetTrainerSCD"}, "bundle"
            )


def test_monai_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scd_plugin.monai.runner.version", lambda _: "1.5.2")
    with pytest.raises(ValueError, match=r"^SCDRunner needs MONAI 1.6 or newer, .*; installed is 1.5.2$"):
        make_runner()
