"""`scd predict` as it is typed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

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
    heading, a, b = (line.split() for line in result.stdout.splitlines())
    assert heading[:4] == ["case", "folds", "mirrored", "passes"]
    assert a[:4] == ["a", "1", "1", "6"]
    assert b[0] == "b"
    (run,) = json.loads((tmp_path / "t.json").read_text())["runs"]
    assert (run["settings"]["folds"], run["settings"]["mirror_axes"], run["settings"]["batch"]) == (["1"], [], 2)
    result = scd_predict(*words, "--continue")
    assert result.exit_code == 0
    assert result.stdout == "nothing to do: every label map is there\n"


def test_exit_code_says_that_a_case_failed(
    make_model: MakeModel, make_images: Callable[..., Path], tmp_path: Path
) -> None:
    images = make_images(["a"])
    (images / "b_0000.nii.gz").write_bytes(b"no image")
    result = scd_predict("-i", images, "-o", tmp_path / "out", "-m", make_model(), "--device", "cpu")
    assert result.exit_code == 1
    assert "failed: b: read: RuntimeError: " in result.stderr
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
