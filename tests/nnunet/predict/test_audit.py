"""`scd audit` of a model folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from typer.testing import CliRunner

from scd_plugin.cli import app
from scd_plugin.measure.audit import Audit
from scd_plugin.nnunet.predict.audit import audit_model

TRAINER = "nnUNetTrainerSCD_demo"
CPU = torch.device("cpu")


@pytest.fixture
def make_data(make_images: Callable[..., Path], write: Callable[[Path, np.ndarray], Path]) -> Callable[..., Path]:
    """Writes a raw data set of cases whose label is a block, of a given value, of 5 x 10 x 12 voxels."""

    def make(names: tuple[str, ...] = ("a", "b"), value: int = 1) -> Path:
        images = make_images(names)
        data = images.parent
        images.rename(data / "imagesTr")
        for name in names:
            label = np.zeros((14, 23, 33), dtype=np.uint8)
            label[4:9, 6:16, 8:20] = value
            write(data / "labelsTr" / f"{name}.nii.gz", label)
        return data

    return make


def audited(model: Path, data: Path, **options: Any) -> Audit:
    return audit_model(model, data / "imagesTr", data / "labelsTr", device=CPU, **options)


def voxels(audit: Audit) -> float:
    return float(audit.segmentation.voxels.sum(dim=(0, 1))[2])


def test_all_labelled_voxels_are_counted(make_model: Callable[..., Path], make_data: Callable[..., Path]) -> None:
    data = make_data()
    counted = audited(make_model(trainer=TRAINER), data)
    # the planned spacing is 2.4 x 1.3 x 1.0 mm, the image's 2.5 x 1.1 x 0.9
    expected = 2 * 5 * 10 * 12 * (2.5 / 2.4) * (1.1 / 1.3) * 0.9
    assert voxels(counted) == pytest.approx(expected, rel=0.1)
    assert counted.segmentation.components[:, 1].sum() == 2
    assert counted.tokens.shares("chance")[0] == pytest.approx(0.75, abs=0.02)


def test_a_fold_is_audited_on_what_it_was_validated_on(
    make_model: Callable[..., Path], make_data: Callable[..., Path]
) -> None:
    model, data = make_model(trainer=TRAINER, folds=("0", "1", "2")), make_data()
    for fold in ("1", "2"):
        (model / f"fold_{fold}" / "validation").mkdir()
    (model / "fold_1" / "validation" / "b.nii.gz").touch()
    # as nnU-Net leaves it out of a model's zip
    summary = {"metric_per_case": [{"prediction_file": "D:\\somewhere\\else\\a.nii.gz"}]}
    (model / "fold_2" / "validation" / "summary.json").write_text(json.dumps(summary))
    said: list[str] = []
    assert [audited(model, data, fold=fold, say=said.append).images for fold in ("1", "2")] == [1, 1]
    assert said == []
    both = audited(model, data, fold="0", say=said.append)
    assert both.segmentation.components[:, 1].sum() == both.images == 2
    note = "fold_0 was validated on none of these cases, as far as its folder validation tells: all 2 are counted"
    assert said[0].endswith(f"{note}, also any that it was trained on")
    (model / "fold_2" / "validation" / "summary.json").write_text("[1")
    assert audited(model, data, fold="2").images == 2


def test_fold_all_was_trained_on_what_is_counted(
    make_model: Callable[..., Path], make_data: Callable[..., Path]
) -> None:
    model, data, said = make_model(trainer=TRAINER, folds=("all",)), make_data(), []
    (model / "fold_all" / "validation").mkdir()
    for name in ("a", "b"):
        (model / "fold_all" / "validation" / f"{name}.nii.gz").touch()
    assert audited(model, data, fold="all", say=said.append).images == 2
    assert said == ["note: fold_all was trained on every case of its data set, so on all 2 that are counted"]


def test_2d(make_model: Callable[..., Path], make_data: Callable[..., Path]) -> None:
    counted = audited(make_model(trainer=TRAINER, configuration="2d"), make_data(("a",)))
    # put together again from its slices
    assert counted.segmentation.components[:, 1].sum() == 1


def test_regions_and_ignored_voxels(
    make_model: Callable[..., Path],
    make_data: Callable[..., Path],
    dataset: dict[str, Any],
    write: Callable[[Path, np.ndarray], Path],
) -> None:
    dataset["labels"] = {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}
    dataset["regions_class_order"] = [1, 2]
    data = make_data(("a",), value=2)
    counted = audited(make_model(dataset=dataset, trainer=TRAINER), data)
    _, _, labelled = counted.segmentation.voxels.sum(dim=0).unbind(-1)
    assert labelled[0] == labelled[1] > 0
    write(data / "labelsTr" / "a.nii.gz", np.full((14, 23, 33), 3, dtype=np.uint8))
    ignored = audited(next(data.glob("nnUNet*")), data)
    assert ignored.tokens.tokens.sum() == 0
    assert "nan" not in ignored.in_one_line()


def test_command(make_model: Callable[..., Path], make_data: Callable[..., Path], tmp_path: Path) -> None:
    words = ["audit", str(make_model(trainer=TRAINER)), str(make_data(("a",))), "--output", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*words, "--device", "cpu", "--keep", "0.5"])
    assert result.exit_code == 0, result.output
    assert "more than one class" in result.output
    header, row = (tmp_path / "out" / "token_audit.csv").read_text().splitlines()
    counted = dict(zip(header.split(","), row.split(",")))
    assert counted["components_65_512"] == "1.0000"
    # the trainer has three quarters leave
    assert float(counted["chance_left_at_1"]) == pytest.approx(0.5, abs=0.05)
    assert (tmp_path / "out" / "token_audit.png").is_file()


def test_command_refuses(make_model: Callable[..., Path], make_data: Callable[..., Path]) -> None:
    words = ["audit", str(make_model(trainer=TRAINER)), str(make_data(("a",))), "--keep", "0"]
    result = CliRunner().invoke(app, words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "error: keep must be in (0, 1], the share of tokens kept at each stage; got 0.0\n"


class TestRefused:
    def refused(self, model: Path, data: Path, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            audited(model, data)

    def test_a_network_without_tokens(self, make_model: Callable[..., Path], make_data: Callable[..., Path]) -> None:
        message = "holds a PlainConvUNet, which prunes no tokens, so there is nothing to audit"
        self.refused(make_model(), make_data(), message)

    def test_no_labels(self, make_model: Callable[..., Path], make_images: Callable[..., Path]) -> None:
        message = r"there is no labelled case: an audit needs NAME_0000.nii.gz, ... in .*imagesTr and NAME.nii.gz in"
        self.refused(make_model(trainer=TRAINER), make_images().parent, message)

    def test_unknown_labels(self, make_model: Callable[..., Path], make_data: Callable[..., Path]) -> None:
        message = r"a.nii.gz holds the label 7; the model knows 0, 1, 2$"
        self.refused(make_model(trainer=TRAINER), make_data(("a",), value=7), message)

    def test_label_map_of_another_size(self, make_model: Callable[..., Path], make_data: Callable[..., Path]) -> None:
        data = make_data(("a",))
        sitk.WriteImage(sitk.Image([8, 8, 8], sitk.sitkUInt8), str(data / "labelsTr" / "a.nii.gz"))
        message = r"a.nii.gz: the label map has the shape \(8, 8, 8\) where its image has \(14, 23, 33\)"
        self.refused(make_model(trainer=TRAINER), data, message)

    def test_second_stage_of_a_cascade(
        self, make_model: Callable[..., Path], make_data: Callable[..., Path], plans: dict[str, Any]
    ) -> None:
        plans["configurations"]["3d_lowres"] = deepcopy(plans["configurations"]["3d_fullres"])
        model = make_model(plans, trainer=TRAINER, configuration="3d_cascade_fullres")
        message = "3d_cascade_fullres is the second stage of a cascade, which needs label maps of 3d_lowres"
        self.refused(model, make_data(), message)
