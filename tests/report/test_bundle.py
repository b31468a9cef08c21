"""A bundle's run: label maps, names of the classes, what its engines wrote, whatever of it is there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch.utils.tensorboard import SummaryWriter

from scd_plugin.report.write import find_run, write_report

DATASET = {"labels": {"one": [1], "two": [2]}, "regions_order": []}


@pytest.fixture
def bundle(make_run: Callable[..., Path], tmp_path: Path) -> Path:
    """A bundle that has inferred the cases a, b and c."""
    predictions, bundle = make_run(), tmp_path / "bundle"
    (bundle / "configs").mkdir(parents=True)
    metadata = {"name": "mine", "monai_version": "1.6", "required_packages_version": {"itk": "5.4"}, "dataset": DATASET}
    (bundle / "configs" / "metadata.json").write_text(json.dumps(metadata))
    inference = {"network_def": {"_target_": "scd_plugin.SCDUNETR", "keep_ratio": 0.25}, "spacing": [1, 1, 2]}
    (bundle / "configs" / "inference.json").write_text(json.dumps(inference))
    (bundle / "eval").mkdir()
    for path in predictions.glob("*.nii.gz"):
        shutil.copy(path, bundle / "eval" / path.name.replace(".nii", "_seg.nii"))
    (bundle / "eval" / "token_audit.png").touch()
    return bundle


@pytest.mark.parametrize("named", [".", "eval"])
def test_a_bundle_or_its_output_folder(bundle: Path, tmp_path: Path, read_page: Any, named: str) -> None:
    with SummaryWriter(str(bundle / "eval")) as writer:
        for step in (1, 2, 3):
            writer.add_scalar("train_loss", 1 / step, step)
        writer.add_scalar("val_mean_dice", 0.75, 1)
    (bundle / "models").mkdir()
    (bundle / "models" / "best.json").write_text(json.dumps({"value": 0.75, "preset": "tiny"}))
    written = write_report(bundle / named, images=tmp_path / "images", truth=tmp_path / "truth")
    assert written.path == bundle / named / "report.html"
    page = read_page(written.path)
    assert written.cases == 3
    assert "a, axial, slice 5 of 20: image with outlines of the prediction: one" in page.pictures
    charts = [image["alt"] for image in page.all("img") if "svg" in image["src"]]
    assert "training loss over step, at the end: training loss 0.333" in charts
    assert "validation Dice, higher is better over epoch, at the end: validation Dice 0.75" in charts
    assert "network: keep_ratio 0.25" in page.text
    assert "network: target scd_plugin.SCDUNETR" in page.text
    assert "best model: preset tiny" in page.text
    assert "monai 1.6" in page.text
    assert "itk 5.4" in page.text


def test_the_evaluation_tells_dice_and_where_images_and_labels_are(
    bundle: Path, tmp_path: Path, read_page: Any
) -> None:
    data = tmp_path / "data"
    shutil.copytree(tmp_path / "images", data / "imagesTr")
    shutil.copytree(tmp_path / "truth", data / "labelsTr")
    rows = [f"{data / 'imagesTr' / 'a_0000.nii.gz'},0.5,nan,0.5", "/gone/imagesTr/b_0000.nii.gz,1,1,1"]
    (bundle / "eval" / "val_mean_dice_raw.csv").write_text("\n".join(["filename,class0,class1,mean", *rows]))
    run = find_run(bundle)
    # of the others, too, which lie beside
    for name in "abc":
        assert run.images[name] == data / "imagesTr" / f"{name}_0000.nii.gz"
        assert run.truth[name] == data / "labelsTr" / f"{name}.nii.gz"
    page = read_page(write_report(bundle).path)
    assert (
        "Dice as the evaluation of the bundle has written it image one two mean a 0.500 nan 0.500 b 1.000" in page.text
    )
    assert "Bundle: bundle" in page.text
    assert "by their mean Dice." in page.text


def test_names_of_the_classes(bundle: Path) -> None:
    def classes() -> dict[str, set[int]]:
        return find_run(bundle).classes

    file = bundle / "configs" / "metadata.json"
    assert classes() == {"one": {1}, "two": {2}}
    file.write_text(json.dumps({"dataset": {"labels": {"whole": [1, 2], "core": [2]}, "regions_order": [1, 2]}}))
    assert classes() == {"whole": {1, 2}, "core": {2}}
    outputs = {"channel_def": {"0": "background", "1": "liver", "2": "spleen"}}
    file.write_text(json.dumps({"network_data_format": {"outputs": {"pred": outputs}}}))
    assert classes() == {"liver": {1}, "spleen": {2}}
    # regions, whose values stand nowhere
    file.write_text(
        json.dumps({"network_data_format": {"outputs": {"pred": {"channel_def": {"0": "whole", "1": "core"}}}}})
    )
    assert classes() == {"label 1": {1}, "label 2": {2}}
    moved = bundle / "configs" / "nnunet"
    moved.mkdir()
    (moved / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "organ": 1, "lesion": 2}}))
    assert classes() == {"organ": {1}, "lesion": {2}}
    file.unlink()
    assert classes() == {"organ": {1}, "lesion": {2}}


def test_a_bundle_that_has_not_run(bundle: Path, read_page: Any) -> None:
    shutil.rmtree(bundle / "eval")
    page = read_page(write_report(bundle).path)
    assert "the bundle has not run yet, or has written elsewhere" in page.text
    assert "There are no label maps here" in page.text


def test_results_named_as_the_file_of_the_channel(bundle: Path, tmp_path: Path) -> None:
    (bundle / "eval" / "a_seg.nii.gz").rename(bundle / "eval" / "a_0000_seg.nii.gz")
    run = find_run(bundle, images=tmp_path / "images", truth=tmp_path / "truth")
    assert run.truth["a_0000"] == tmp_path / "truth" / "a.nii.gz"
    assert run.images["a_0000"] == tmp_path / "images" / "a_0000.nii.gz"
    # the same of an output folder that nothing tells for a bundle's
    shutil.copytree(bundle / "eval", tmp_path / "elsewhere")
    run = find_run(tmp_path / "elsewhere", images=tmp_path / "images", truth=tmp_path / "truth")
    assert run.truth["a_0000_seg"] == tmp_path / "truth" / "a.nii.gz"
    assert run.images["b_seg"] == tmp_path / "images" / "b_0000.nii.gz"


def test_numbers_that_are_patients(bundle: Path, tmp_path: Path) -> None:
    folder, images = tmp_path / "patients", tmp_path / "images"
    folder.mkdir()
    for number in ("0001", "0002"):
        shutil.copy(bundle / "eval" / "a_seg.nii.gz", folder / f"p_{number}.nii.gz")
    (images / "a_0000.nii.gz").rename(images / "p_0001.nii.gz")
    (tmp_path / "truth" / "a.nii.gz").rename(tmp_path / "truth" / "p.nii.gz")
    run = find_run(folder, images=images, truth=tmp_path / "truth")
    assert run.images["p_0001"] == images / "p_0001.nii.gz"
    # that of another, and whose it is nobody knows
    assert "p_0002" not in run.images
    assert not {"p_0001", "p_0002"} & run.truth.keys()
    assert any(note.startswith("no image of 1 of 2 cases") for note in run.notes)


def test_output_elsewhere(bundle: Path, tmp_path: Path, read_page: Any) -> None:
    shutil.copytree(bundle / "eval", tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "val_mean_dice_raw.csv").write_text("filename,class0,mean\na.nii.gz,0.25,0.25\n")
    page = read_page(write_report(tmp_path / "elsewhere").path)
    assert "nothing names the classes here" in page.text
    assert "a 0.250 0.250" in page.text
