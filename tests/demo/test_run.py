from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from scd_plugin.demo import run as demo_run
from scd_plugin.demo import session as demo_session
from scd_plugin.demo import synthetic
from scd_plugin.demo.picture import Views, draw


class TestOutputFolder:
    def test_earlier_demo_is_replaced(self, tmp_path: Path) -> None:
        output = tmp_path / "deep" / "out"
        demo_run._start_folder(output)
        (output / "nnUNet_raw").mkdir()
        demo_run._start_folder(output)
        assert [path.name for path in output.iterdir()] == [demo_run.MARKER]

    def test_what_a_stopped_replacement_left_is_replaced(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        demo_run._start_folder(tmp_path)
        (tmp_path / "nnUNet_raw").mkdir()

        def stopped(_folder: Path) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(demo_run.shutil, "rmtree", stopped)
            with pytest.raises(KeyboardInterrupt):
                demo_run._start_folder(tmp_path)
        demo_run._start_folder(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [demo_run.MARKER]

    def test_full_disk_is_said_first(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(demo_run, "ROOM", 1e18)
        with pytest.raises(ValueError, match=r"the demo needs about .* MB, and on the disk of .*out are \d+ MB free"):
            demo_run.run_demo(None, tmp_path / "out", device="cpu")
        assert list(tmp_path.iterdir()) == []

    def test_full_disk_explains_a_command_that_failed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(words: list[str], _environment: dict[str, str]) -> None:
            raise subprocess.CalledProcessError(1, words)

        monkeypatch.setattr(demo_session, "run_program", fail)
        session = demo_session.Session(tmp_path, Console(record=True))
        with pytest.raises(subprocess.CalledProcessError, match="nnUNetv2_train"):
            session.command("nnUNetv2_train", "1")
        monkeypatch.setattr(demo_session, "LEAST_ROOM", 1e18)
        with pytest.raises(ValueError, match=r"^nnUNetv2_train, which failed, needs about"):
            session.command("nnUNetv2_train", "1")

    def test_empty_folder_is_taken(self, tmp_path: Path) -> None:
        demo_run._start_folder(tmp_path)
        assert (tmp_path / demo_run.MARKER).is_file()

    # the second is how many keep nnU-Net's three folders
    @pytest.mark.parametrize("precious", ["precious.txt", "nnUNet_raw/Dataset004_Mine/dataset.json"])
    def test_other_folders_are_never_touched(self, tmp_path: Path, precious: str) -> None:
        (tmp_path / precious).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / precious).touch()
        with pytest.raises(ValueError, match=r"output must be a new folder.*is none of these, name another") as error:
            demo_run._start_folder(tmp_path)
        assert str(tmp_path) in str(error.value)
        assert (tmp_path / precious).exists()

    def test_a_file_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "out").write_text("mine")
        with pytest.raises(ValueError, match=r"output must be a new folder.*is none of these"):
            demo_run._start_folder(tmp_path / "out")
        assert (tmp_path / "out").read_text() == "mine"

    @pytest.mark.parametrize(("data", "output"), [("out/nnUNet_raw/Dataset042_Mine", "out"), ("mine", "mine/out")])
    def test_data_and_output_lie_apart(self, tmp_path: Path, data: str, output: str) -> None:
        (tmp_path / data).mkdir(parents=True)
        if output == "out":
            (tmp_path / output / demo_run.MARKER).touch()
        with pytest.raises(ValueError, match=r"data and output must lie apart.*got data .*name another with --output"):
            demo_run.run_demo(tmp_path / data, tmp_path / output, device="cpu")
        assert (tmp_path / data).is_dir()

    @pytest.mark.parametrize(("bundle", "output"), [("out/mine", "out"), ("mine", "mine/out")])
    def test_model_to_try_and_output_lie_apart(self, tmp_path: Path, bundle: str, output: str) -> None:
        shutil.copytree(Path(__file__).parents[2] / "bundles" / "scd_unetr_hippocampus", tmp_path / bundle)
        if output == "out":
            (tmp_path / output / demo_run.MARKER).touch()
        with pytest.raises(ValueError, match=r"model-to-try and output must lie apart.*the other is only read"):
            demo_run.run_demo(None, tmp_path / output, device="cpu", model_to_try=tmp_path / bundle)
        assert (tmp_path / bundle / "models" / "model.pt").is_file()

    def test_bad_data_leaves_the_earlier_demo(self, tmp_path: Path) -> None:
        demo_run._start_folder(tmp_path / "out")
        (tmp_path / "out" / "demo.json").touch()
        (tmp_path / "mine").mkdir()
        with pytest.raises(ValueError, match=r"dataset.json, imagesTr, labelsTr; .*mine lacks dataset.json"):
            demo_run.run_demo(tmp_path / "mine", tmp_path / "out", device="cpu")
        assert (tmp_path / "out" / "demo.json").exists()


@pytest.mark.parametrize(
    ("device", "message"),
    [("tpu", "device must be one of auto, cpu, cuda; got tpu"), ("cuda", "device is cuda, but PyTorch finds no CUDA")],
)
def test_device_is_checked_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, message: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=message):
        demo_run.run_demo(None, tmp_path / "out", device=device)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("raw_folder", [False, True], ids=["synthetic", "raw folder"])
def test_pipeline(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    volumes: Any,
    raw_folder: bool,
) -> None:
    data = volumes.nnunet(tmp_path / "Dataset027_A-2", num_cases=8) if raw_folder else None
    output, ran = tmp_path / "out", []

    def run(words: list[str], env: dict[str, str]) -> None:
        assert Path(words[0]).parent == Path(sys.executable).parent
        assert env["nnUNet_raw"] == str(output / "nnUNet_raw")
        ran.append([Path(words[0]).name, *words[1:]])
        if ran[-1][0] == "nnUNetv2_evaluate_folder":
            predictions = Path(words[2])
            shutil.copytree(words[1], predictions)
            summary = {"mean": {"1": {"Dice": 0.9}}, "foreground_mean": {"Dice": 0.9}}
            (predictions / "summary.json").write_text(json.dumps(summary))

    pictured = []
    monkeypatch.setattr(demo_session, "run_program", run)
    monkeypatch.setattr(
        demo_run, "_picture", lambda _session, _dataset, model, *, device: pictured.append((model, device))
    )
    audited = []
    monkeypatch.setattr(
        demo_run, "_audit", lambda _session, *folders, device: audited.append((*folders, device)) or {"mixed_kept": 0.5}
    )
    monkeypatch.setattr(
        synthetic,
        "write_dataset",
        lambda folder, *, num_cases, **_: volumes.nnunet(folder, num_cases=num_cases // 3),
    )
    assert demo_run.run_demo(data, output, device="cpu")

    name, number = ("Dataset027_A-2", "27") if raw_folder else ("Dataset901_SyntheticOrgans", "901")
    dataset, predictions = str(output / "nnUNet_raw" / name), str(output / "predictions")
    model = output / "nnUNet_results" / name / "nnUNetTrainerSCD_demo__nnUNetPlans__3d_fullres"
    trainer = "-tr nnUNetTrainerSCD_demo -device cpu"
    assert [" ".join(words) for words in ran] == [
        f"nnUNetv2_plan_and_preprocess -d {number} -c 3d_fullres --verify_dataset_integrity -np 2 -npfp 2",
        f"nnUNetv2_train {number} 3d_fullres 0 {trainer}",
        f"nnUNetv2_predict -i {dataset}/imagesHeldOut -o {predictions} -d {number} -c 3d_fullres -f 0 {trainer} "
        "-npp 1 -nps 1",
        f"nnUNetv2_evaluate_folder {dataset}/labelsHeldOut {predictions} -djfile {model}/dataset.json "
        f"-pfile {model}/plans.json",
    ]
    assert pictured == [(model, "cpu")]
    assert audited == [(model, Path(dataset) / "imagesHeldOut", Path(dataset) / "labelsHeldOut", "cpu")]
    printed = capsys.readouterr().out
    assert all(f"$ {shlex.join(words)}\n" in printed for words in ran)
    assert f"report: {output / 'report.html'}; open it in a browser\n" in printed
    page = (output / "report.html").read_text(encoding="utf-8")
    assert "1 case, the worst first" in " ".join(page.split())
    assert "image with outlines of the truth" in page
    report = json.loads((output / "demo.json").read_text())
    stages = ["data set", "plan and preprocess", "train", "predict", "evaluate", "audit", "picture", "report"]
    assert list(report["seconds"]) == stages
    assert report["held_out"] == ["case_6"]
    assert report["tokens"] == {"mixed_kept": 0.5}


@pytest.mark.parametrize(("mean", "synthetic", "passed"), [(0.85, True, True), (0.79, True, False), (0.1, False, True)])
def test_report(tmp_path: Path, mean: float, synthetic: bool, passed: bool) -> None:
    dataset, predictions = tmp_path / "Dataset001_A", tmp_path / "predictions"
    dataset.mkdir()
    predictions.mkdir()
    labels = {"background": 0, "whole": [1, 2], "core": 2}
    (dataset / "dataset.json").write_text(json.dumps({"labels": labels}))
    summary = {"mean": {"(1, 2)": {"Dice": 0.9}, "2": {"Dice": 0.7}}, "foreground_mean": {"Dice": mean}}
    (predictions / "summary.json").write_text(json.dumps(summary))
    (tmp_path / "out").mkdir()
    session = demo_session.Session(tmp_path / "out", Console(record=True, width=100))
    with session.stage("train"):
        pass
    assert demo_run._report(session, dataset, predictions, ["a"], {}, synthetic=synthetic) is passed
    report = json.loads((tmp_path / "out" / "demo.json").read_text())
    assert report["dice"] == {"whole": 0.9, "core": 0.7}
    assert list(report["seconds"]) == ["train"]
    printed = session.console.export_text()
    assert "whole" in printed
    assert "0.900" in printed
    assert ("the demo failed" in printed) is not passed


def test_picture(tmp_path: Path) -> None:
    labels = np.zeros((4, 16, 16), dtype=np.uint8)
    labels[2, 4:9, 4:9] = 1
    views = Views(
        image=np.random.default_rng(0).random((4, 16, 16)),
        truth=labels,
        prediction=labels,
        keep=labels.astype(float),
        num_stages=3,
    )
    draw(views, tmp_path / "demo.png", title="case")
    assert (tmp_path / "demo.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_prediction_has_all_cores_of_a_small_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    console = Console(record=True)
    session = demo_session.Session(tmp_path, console)
    assert session.environment["nnUNet_def_n_proc"] == "1"
    session.unset("nnUNet_def_n_proc")
    assert "nnUNet_def_n_proc" not in session.environment
    assert console.export_text().endswith("$ unset nnUNet_def_n_proc\n")
    session.unset("nnUNet_def_n_proc")
    assert console.export_text() == ""
