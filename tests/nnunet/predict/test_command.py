"""`scd predict` as it is typed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from typer.testing import CliRunner

from scd_plugin import processor
from scd_plugin.cli import app

MakeModel = Callable[..., Path]


def scd_predict(*words: object) -> Result:
    return CliRunner().invoke(app, ["predict", *map(str, words)], terminal_width=200)


def test_predicts_and_says_where_time_goes(
    make_model: MakeModel, make_images: Callable[..., Path], tmp_path: Path
) -> None:
    words = ("-i", make_images(), "-o", tmp_path / "out", "-m", make_model(folds=("0", "1")), "--device", "cpu")
    result = scd_predict(*words, "-f", "1", "--no-mirroring", "--batch", "2", "--json", tmp_path / "t.json")
    assert result.exit_code == 0, result.output
    *table, done = result.stdout.splitlines()
    assert re.fullmatch(rf"done: 2 label maps in {re.escape(str(tmp_path / 'out'))}, \d+ s in all", done)
    heading, a, b = (line.split() for line in table)
    assert heading[:4] == ["case", "folds", "mirrored", "passes"]
    assert a[:4] == ["a", "1", "1", "6"]
    assert b[0] == "b"
    (run,) = json.loads((tmp_path / "t.json").read_text())["runs"]
    assert (run["settings"]["folds"], run["settings"]["mirror_axes"], run["settings"]["batch"]) == (["1"], [], 2)
    result = scd_predict(*words, "--continue")
    assert result.exit_code == 0
    assert result.stdout == "nothing to do: every label map is there\n"


def test_report(make_model: MakeModel, make_images: Callable[..., Path], tmp_path: Path) -> None:
    images, out = make_images(["a", "b"]), tmp_path / "out"
    (images / "b_0000.nii.gz").write_bytes(b"no image")
    words = ("-i", images, "-o", out, "-m", make_model(), "--device", "cpu", "--no-mirroring", "--report")
    result = scd_predict(*words)
    # a case that failed stands in the page, and in the exit code
    assert result.exit_code == 1
    assert f"done: {out / 'report.html'}, 1 case, 1 with pictures, " in result.stdout
    page = " ".join((out / "report.html").read_text(encoding="utf-8").split())
    assert "image with outlines of the prediction" in page
    assert "b was not predicted: read: " in page
    assert "Where the time went, in seconds" in page
    assert f"<td>{images}</td>" in page
    (images / "b_0000.nii.gz").unlink()
    result = scd_predict(*words, "--continue")
    assert result.exit_code == 0
    assert result.stdout.startswith("nothing to do: every label map is there\ndone: ")


def test_exit_code_says_that_a_case_failed(
    make_model: MakeModel, make_images: Callable[..., Path], tmp_path: Path
) -> None:
    images = make_images(["a"])
    (images / "b_0000.nii.gz").write_bytes(b"no image")
    result = scd_predict("-i", images, "-o", tmp_path / "out", "-m", make_model(), "--device", "cpu")
    assert result.exit_code == 1
    assert "failed: b: read: " in result.stderr
    assert "done: 1 label map in" in result.stdout
    assert result.stderr.endswith("error: 1 of 2 cases failed: b\n")
    assert (tmp_path / "out" / "a.nii.gz").exists()
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--device", "tpu"), "device must be one of auto, cpu, cuda; got tpu"),
        (("--resampling", "fast"), "resampling must be one of nnunet, torch; got fast"),
        (("--step-size", "2"), "step_size must be in (0, 1], the step as a share of the window; got 2.0"),
        (("--batch", "0"), "batch must be at least 1, the windows in a forward pass; got 0"),
        (("--keep", "2"), "keep must be in (0, 1], the share of tokens kept at each stage; got 2.0"),
        (("--keep", "0.5"), "keep is for networks that prune tokens, and that of nnUNetTrainer prunes none"),
        (("--threads", "0"), "threads must be at least 1, the network's on a CPU; got 0"),
        (("--dtype", "half"), "dtype must be one of float32, bfloat16, auto; got half"),
        (("-f", "4"), "fold 4 has no checkpoint; folds with one: 0 (checkpoint_final.pth)"),
        (("--checkpoint", "best.pth"), "no fold has a checkpoint (best.pth)"),
        (("--previous-stage", "."), "3d_fullres is no second stage of a cascade"),
        (("-o", "out.nii.gz"), "output out.nii.gz is a file, so input must be one too"),
        (("-i", "absent"), "input must be a folder of images or an image; there is no absent"),
        (("-m", "."), "is no model folder of nnU-Net: it has no plans.json"),
        (("--json", "."), "the file for the times must be a file; . is a folder"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_wrong_usage_is_one_sentence(
    make_model: MakeModel,
    make_images: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, str],
    message: str,
) -> None:
    model, images = make_model(), make_images(["a"])
    monkeypatch.chdir(tmp_path)
    given = {"-i": str(images), "-o": "out", "-m": str(model), "--device": "cpu", words[0]: words[1]}
    result = scd_predict(*(word for pair in given.items() for word in pair))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not list(tmp_path.glob("out*/*.nii.gz"))


@pytest.mark.parametrize(
    ("instructions", "options", "dtype", "note"),
    [
        (None, ["--dtype", "bfloat16"], "bfloat16", "note: bfloat16 will be slow on this processor, which has neither"),
        ("AMX", ["--dtype", "bfloat16"], "bfloat16", ""),
        ("AVX512-BF16", ["--dtype", "auto", "--threads", "1"], "bfloat16", ""),
        (None, ["--dtype", "auto"], "float32", ""),
    ],
    ids=["slow", "fast", "auto where it is fast", "auto where it is slow"],
)
def test_dtype_and_threads(
    make_model: MakeModel,
    make_images: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    instructions: str | None,
    options: list[str],
    dtype: str,
    note: str,
) -> None:
    monkeypatch.setattr(processor, "bfloat16_instructions", lambda: instructions)
    words = ("-i", make_images(["a"]), "-o", tmp_path / "out", "-m", make_model(), "--device", "cpu", *options)
    result = scd_predict(*words, "--no-mirroring")
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith(note)
    assert result.stderr.count("\n") == bool(note)
    (run,) = json.loads((tmp_path / "out" / "scd_predict.json").read_text())["runs"]
    assert run["settings"]["dtype"] == dtype
    if "--threads" in options:
        assert run["settings"]["threads"] == 1


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("dataset.json", {"channel_names": {"0": "CT"}, "file_ending": ".mha"}, "dataset.json has no labels, which"),
        (
            "dataset.json",
            {"channel_names": {"0": "CT"}, "labels": {"background": 0}},
            "dataset.json has no file_ending",
        ),
        ("dataset.json", "nothing", "dataset.json must be an object, {...}, as nnU-Net writes it, not a string"),
        (
            "plans.json",
            [],
            "plans.json must be an object, {...}, as nnU-Net writes it, not a list; take plans.json and",
        ),
    ],
    ids=["labels", "file ending", "string", "list"],
)
def test_damaged_model_folder_is_one_sentence(
    make_model: MakeModel, make_images: Callable[..., Path], tmp_path: Path, file: str, content: object, message: str
) -> None:
    model = make_model()
    (model / file).write_text(json.dumps(content))
    result = scd_predict("-i", make_images(["a"]), "-o", tmp_path / "out", "-m", model, "--device", "cpu")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {model}: {message}")
    assert result.stderr.count("\n") == 1


def test_own_trainers_module_that_fails_is_one_sentence(
    make_model: MakeModel, make_images: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "mine.py").write_text("import no_such_package")
    monkeypatch.setenv("nnUNet_extTrainer", str(tmp_path / "own"))
    model = make_model()
    file = model / "fold_0" / "checkpoint_final.pth"
    torch.save({**torch.load(file, weights_only=False), "trainer_name": "nnUNetTrainer_mine"}, file)
    result = scd_predict("-i", make_images(["a"]), "-o", tmp_path / "out", "-m", model, "--device", "cpu")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "error: nnU-Net's search for trainer nnUNetTrainer_mine fails with ModuleNotFoundError: No module named "
        "'no_such_package'. It imports every module in the folders of nnUNet_extTrainer; scd doctor names the file to "
        "correct or to move out\n"
    )


@pytest.mark.parametrize("option", ["-i", "-o", "-m"])
def test_what_must_be_given(option: str) -> None:
    words = [word for name in ("-i", "-o", "-m") if name != option for word in (name, "x")]
    assert scd_predict(*words).exit_code == 2


def test_file_to_file(make_model: MakeModel, write: Callable[[Path, np.ndarray], Path], tmp_path: Path) -> None:
    image = write(tmp_path / "images" / "scan.nii.gz", np.arange(16**3, dtype=np.int16).reshape(16, 16, 16))
    output = tmp_path / "elsewhere" / "label.nii.gz"
    result = scd_predict("-i", image, "-o", output, "-m", make_model(), "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert output.exists()
