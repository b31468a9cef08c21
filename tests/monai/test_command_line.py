"""What is said of a bundle's command line before anything runs; options are read as Fire reads them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fire.core import Fire

from scd_plugin.monai.command_line import complaint, options_of

BUNDLES = Path(__file__).parents[2] / "bundles"
TRAIN, EVALUATE, INFERENCE = (
    BUNDLES / "scd_unetr_segmentation" / "configs" / f"{name}.json" for name in ("train", "evaluate", "inference")
)


def of_training(*options: str) -> str | None:
    return complaint(["--config_file", str(TRAIN), *options])


@pytest.mark.parametrize(
    "arguments",
    [
        ["--a", "1", "--b=x", "-c", "3.5"],
        ["--resume", "--fold", "1"],
        ["--noresume"],
        ["--a=b=c", "--a-b", "None", "--x#y", "[1,2]"],
        ["--dataset_dir", "1e3", "--output_dir=2024", "--ckpt_dir", "a#b"],
        ["--a", "-1", "--b", "(1, 'x')", "--c", "true", "--d", "True", "--e", "%x", "--f", "$x"],
        ["--a", "{k: v}", "--b", "1.2.840", "--c", "2024-10", "--d", "2024_10", "--e", "007"],
    ],
)
def test_options_as_fire_reads_them(arguments: list[str]) -> None:
    def run(**options: Any) -> dict[str, Any]:
        return options

    # without a serializer Fire prints what it returns
    read = Fire(run, arguments, serialize=lambda _: "")
    assert read == {name: value for name, _, value in options_of(arguments)}


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--dataset_dir", "/data", "--bundle_root", ".", "--output_dir", "out", "--ckpt_dir=models"],
        ["--dataset_dir", "2024"],
        ["--dataset_dir", "./1e3", "--output_dir", "./None"],
        ["--dataset_dir", "1.2.840.4", "--output_dir", "2024-10"],
        ["--epochs", "5", "--fold", "0", "--learning_rate", "1e-4", "--guide", "0.3", "--guide", "1"],
        ["--resume", "True", "--skip_bad=False"],
        ["--resume"],
        ["--noresume"],
        ["--size", "small-fast", "--keep_ratio", "0.5", "--keep_ratio", "[0.5, 0.25]", "--keep_ratios", "(0.1, 1)"],
        # the value that the config has as well
        ["--keep_ratio", "None"],
        ["--keep_ratio", "$None"],
        ["--dataset_dir", "$@bundle_root + '/data'", "--output_dir", "@bundle_root"],
        ["--early_stopping", "$2 * 3", "--epochs", "@mine", "--mine", "7"],
        ["--network_def#hidden_size", "96", "--network_def#unheard_of", "1"],
        ["--train#dataloader#num_workers", "0", "--validate#inferer#overlap", "0", "--loss", "%a.json#loss"],
        ["--device", "cpu", "--num_workers", "0"],
        ["--meta_file", "None", "--run_id", "run", "--_meta_#version", "1"],
        ["--tracking", "mlflow", "--run_name", "first", "--experiment_name", "x"],
    ],
)
def test_options_that_do_what_they_say(options: list[str]) -> None:
    assert of_training(*options) is None


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--fold", "None"], "--fold None does nothing: MONAI leaves out options that are None, ... --fold '$None'"),
        (["--train#inferer", "None"], "--train#inferer None does nothing"),
        (["--epoch", "5"], "--epoch does nothing, since the config has no epoch; is epochs meant?"),
        (["--dataset-folder", "x"], "--dataset_folder does nothing, since the config has no dataset_folder"),
        (["--train#handler", "[]"], "--train#handler does nothing, ... is train#handlers meant?"),
        (["--nothing"], "--thing does nothing"),
        (["--mine", "7", "--epochs", "$@mines"], "--mine does nothing"),
        (["--run_name", "first"], "--run_name does nothing"),
        (["--dataset_dir", "1e3"], "--dataset_dir 1e3 does not arrive as a path, but as 1000.0 (float): write ./1e3"),
        (["--dataset_dir", "2024_10"], "but as 202410 (int): write ./2024_10"),
        (["--dataset_dir", "0x10"], "but as 16 (int): write ./0x10"),
        (["--dataset_dir", "2024.10"], "but as 2024.1 (float): write ./2024.10"),
        (["--dataset_dir", "None"], "but as None (NoneType): write ./None"),
        (["--dataset_dir", "True"], "but as True (bool): write ./True"),
        (["--dataset_dir"], "--dataset_dir True does not arrive as a path"),
        (["--dataset_dir", "[a]"], "but as ['a'] (list): write ./[a]"),
        (["--dataset_dir", "a,b"], "but as ('a', 'b') (tuple): write ./a,b"),
        (["--dataset_dir", "{a}"], "but as {'a'} (set): write ./{a}"),
        (["--dataset_dir", "'a'"], "but as 'a' (str): write ./'a'"),
        (["--dataset_dir", "data#1"], "can't be a path of a bundle, where MONAI writes # as ::; rename the folder"),
        (["--dataset_dir", "/x/data#1"], "can't be a path of a bundle"),
        (["--output_dir", "2024"], "--output_dir 2024 does not arrive as a path, but as 2024 (int): write ./2024"),
        (["--output_dir", ""], "--output_dir is empty, as where a variable of the shell is not set: give a path"),
        (["--dataset_dir="], "--dataset_dir is empty"),
        (["--ckpt_dir=7"], "--ckpt_dir 7 does not arrive as a path"),
        (["--bundle_root", "1"], "--bundle_root 1 does not arrive as a path"),
        (["--resume", "false"], "--resume must be True or False; false arrives as 'false' (str)"),
        (["--skip_bad", "yes"], "--skip_bad must be True or False"),
        (["--skip_bad", "1"], "--skip_bad must be True or False; 1 arrives as 1 (int)"),
        (["--epochs", "1e3"], "--epochs must be a whole number, 1000; 1e3 arrives as 1000.0 (float)"),
        (["--fold", "all"], "--fold must be a number; all arrives as 'all' (str)"),
        (["--fold"], "--fold must be a number; True arrives as True (bool)"),
        (["--learning_rate", "1e-4x"], "--learning_rate must be a number"),
        (["--guide_target", "2024"], "--guide_target must be text; 2024 arrives as 2024 (int)"),
        (["--train#dataloader#shuffle", "no"], "--train#dataloader#shuffle must be True or False"),
    ],
)
def test_options_that_would_be_something_else(options: list[str], sentence: str) -> None:
    said = of_training(*options) or ""
    assert all(part in said for part in sentence.split(" ... "))


@pytest.mark.parametrize("name", ["$raw", "@raw", "$raw-1", "@fold"])
def test_folders_with_names_that_are_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    sentence = f"is code or a reference to MONAI; for the folder of that name write ./{name}"
    # what can't be anything else, and what can
    assert (sentence in (of_training("--dataset_dir", name) or "")) is (name in ("$raw", "@raw"))
    (tmp_path / name).mkdir()
    assert sentence in (of_training("--dataset_dir", name) or "")


class TestConfigs:
    def test_arguments_may_be_of_several_kinds(self) -> None:
        options = ["--network_def#norm_name", "instance", "--network_def#patch_size", "8", "--img_size", "96"]
        assert complaint(["--config_file", str(INFERENCE), *options, "--inferer#overlap", "[0.5, 0.5, 0.25]"]) is None

    def test_several(self) -> None:
        files = f"['{TRAIN}','{EVALUATE}']"
        assert complaint(["--config_file", files, "--fold", "1", "--validate#handlers", "[]"]) is None
        assert "is fold meant" in (complaint(["--config_file", files, "--folds", "1"]) or "")
        assert "is fold meant" in (complaint(["--config_file", f"{TRAIN},{EVALUATE}", "--folds", "1"]) or "")

    def test_named_in_a_file_of_arguments(self, tmp_path: Path) -> None:
        file = tmp_path / "arguments.json"
        file.write_text(json.dumps({"config_file": str(INFERENCE)}))
        assert complaint(["--args_file", str(file), "--skip_bad", "True"]) is None
        assert "no epochs" in (complaint(["--args_file", str(file), "--epochs", "3"]) or "")

    def test_none(self) -> None:
        assert complaint(["--epoch", "3"]) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--dataset_dir", "None"], "error: --dataset_dir None does not arrive as a path, but as None (NoneType)"),
        (["--epochs", "3"], "error: --epochs does nothing, since the config has no epochs"),
        (
            ["--dataset_dir", "2024", "--run_id", "datalist"],
            "error: dataset_dir must be an image or a folder of images; 2024 is neither",
        ),
    ],
)
def test_the_command_ends_with_the_sentence(tmp_path: Path, options: list[str], sentence: str) -> None:
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(INFERENCE), *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert sentence in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
