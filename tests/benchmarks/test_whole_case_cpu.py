from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
import whole_case_cpu
from typer.testing import CliRunner
from whole_case_cpu import FAST, NNUNET, RUNS, Run, measured

APP = typer.Typer()
APP.command()(whole_case_cpu.main)


def test_every_trainer_has_each_engine_and_precision_first_pytorchs_float32() -> None:
    options = [run.options for run in RUNS if run.trainer == FAST]
    fastest = "--engine openvino --dtype bfloat16"
    assert options == ["", "--dtype bfloat16", "--engine openvino", fastest, f"{fastest} --resampling torch"]
    assert [run.command for run in RUNS if run.trainer == NNUNET] == ["nnUNetv2_predict"] + ["scd predict"] * 5


def test_voxels_are_compared_with_the_first_of_the_same_trainer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maps = iter(np.array([[0, 0, 1, 1], [0, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 0]]))
    made = []

    def predicted(_: Path, run: Run, model: Path) -> tuple[dict[str, Any], np.ndarray]:
        made.append(model)
        return {**run._asdict(), "seconds": 1.0}, next(maps)

    monkeypatch.setattr(whole_case_cpu, "IMAGE", tmp_path / "ct.nii.gz")
    monkeypatch.setattr(whole_case_cpu, "shape_of_image", lambda: [8, 8, 8])
    monkeypatch.setattr(whole_case_cpu, "write_data_set", lambda root, shape: root / str(shape))
    monkeypatch.setattr(whole_case_cpu, "drawn_model_folder", lambda _root, trainer, _data_set, _patch: Path(trainer))
    monkeypatch.setattr(whole_case_cpu, "predicted", predicted)
    runs = [Run("scd predict", name, options) for name in (FAST, NNUNET) for options in ("", "--dtype bfloat16")]
    assert [row["alike"] for row in measured(tmp_path, runs)] == [1, 0.75, 1, 0.75]
    assert made == [Path(FAST)] * 2 + [Path(NNUNET)] * 2
    assert (tmp_path / "images" / "case_0000.nii.gz").is_symlink()


def test_an_image_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole_case_cpu, "IMAGE", tmp_path / "ct.nii.gz")
    result = CliRunner().invoke(APP, [str(tmp_path / "out.json")])
    assert result.exit_code == 2
    assert f"error: there is no image {tmp_path / 'ct.nii.gz'}; name one by the variable IMAGE" in result.output
    assert not (tmp_path / "out.json").exists()
