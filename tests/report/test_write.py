"""Pages of predictions, and what a page says where something is missing or wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from scd_plugin.measure.stage_colours import write_colours
from scd_plugin.report.cases import measure
from scd_plugin.report.write import find_run, write_report

MakeRun = Callable[..., Path]


def test_a_page_of_predictions(make_run: MakeRun, tmp_path: Path, read_page: Any) -> None:
    folder = make_run()
    written = write_report(folder, images=tmp_path / "images", truth=tmp_path / "truth")
    assert (written.path, written.cases, written.shown) == (folder / "report.html", 3, 3)
    page = read_page(written.path)
    # the first was moved by 3 of 10 voxels along y, the others by less
    assert re.search(r"mean Dice .* a 0\.700 .* b 0\.800 .* c 0\.900", page.text)
    assert "3 cases, the worst first: by their mean Dice." in page.text
    assert "surfaces count as equal up to 2 mm" in page.text
    # 6 x 10 x 11 voxels of 2 mm3
    assert "one 0.700" in page.text
    assert "1.32 1.32" in page.text
    # prediction and truth in three planes of three cases
    assert len(page.pictures) == 18
    assert page.pictures[0] == "a, axial, slice 5 of 20: image with outlines of the prediction: one"
    assert not [note for note in page.all("div") if note.get("role") == "note"]


def test_dice_is_that_of_nnunet(make_run: MakeRun, tmp_path: Path) -> None:
    from nnunetv2.evaluation.evaluate_predictions import compute_metrics
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    run = find_run(make_run(), truth=tmp_path / "truth")
    for case in run.label_maps:
        files = str(run.truth[case]), str(run.label_maps[case])
        theirs = compute_metrics(*files, SimpleITKIO(), [1, 2])["metrics"]
        ours = {one.name: one.scores.dice for one in measure(run, case, tolerance=1).classes}
        assert ours == pytest.approx({"one": theirs[1]["Dice"], "two": theirs[2]["Dice"]})


def test_a_page_for_every_reader(make_run: MakeRun, tmp_path: Path, read_page: Any) -> None:
    written = write_report(make_run(), truth=tmp_path / "truth")
    page = read_page(written.path)
    assert page.all("html") == [{"lang": "en"}]
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(image.get("alt") for image in page.all("img"))
    assert all(cell.get("scope") in ("row", "col") for cell in page.all("th"))
    names = {one["id"] for _, one in page.tags if "id" in one}
    assert {str(link["href"]).removeprefix("#") for link in page.all("a")} <= names
    # nothing from elsewhere, and nothing that runs
    assert {str(image["src"]).partition(";")[0] for image in page.all("img")} == {
        "data:image/jpeg",
        "data:image/svg+xml",
    }
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe", "object", "base", "form")]
    policy = [one["content"] for one in page.all("meta") if one.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_text_is_dark_enough(make_run: MakeRun) -> None:
    text = write_report(make_run()).path.read_text(encoding="utf-8")
    style = text[text.index("<style>") : text.index("</style>")]
    for colour in re.findall(r"[{; ]color: #([0-9a-f]{6})", style):
        shares = [int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
        luminance = sum(weight * share for weight, share in zip((0.2126, 0.7152, 0.0722), linear))
        # WCAG AA, on white
        assert 1.05 / (luminance + 0.05) >= 4.5, colour


def test_names_are_shown_and_not_run(make_run: MakeRun, tmp_path: Path, read_page: Any) -> None:
    name, label = "<img src=x onerror=alert(1)>", "<script>alert(2)</script>$\\frac$"
    folder = make_run([name, "b"], labels={"background": 0, label: 1, "two & 'more'": 2})
    (folder / "scd_predict.json").write_text(
        json.dumps({"runs": [{"settings": {"model": label}, "wall_seconds": 1, "cases": []}]})
    )
    page = read_page(write_report(folder, images=tmp_path / "images", truth=tmp_path / "truth").path)
    assert not page.all("script")
    assert not [image for image in page.all("img") if "onerror" in image or image["src"] == "x"]
    assert page.text.count(label) >= 3
    assert name in page.text
    assert any(name in alt for alt in page.pictures)
    assert "two & 'more'" in page.text


def test_without_truth_the_most_unusual_comes_first(make_run: MakeRun, read_page: Any, volumes: Any) -> None:
    folder = make_run(list("abcdefgh"))
    odd = np.zeros(volumes.shape, np.uint8)
    odd[2:18, 2:20, 2:20] = 1
    volumes.write(folder / "odd.nii.gz", odd, spacing=(1, 1, 2))
    page = read_page(write_report(folder, pictures=1).path)
    assert "9 cases, the worst first: there is no truth, so by how unusual the sizes of their classes are." in page.text
    assert "Stands apart: one: large, two: small." in page.text
    assert "The 1 worst of 9 cases; the others are in the table above." in page.text
    assert [alt.partition(",")[0] for alt in page.pictures] == ["odd"] * 3
    assert "no image, outlines of the prediction: one" in page.pictures[0]
    assert "no image of any case was found beside the label maps; name its folder with --images" in page.text
    assert "no truth of any case was found beside the label maps; name its folder with --truth" in page.text
    assert "mean Dice" not in page.text
    assert not read_page(write_report(folder, pictures=0).path).pictures


def test_no_case(make_run: MakeRun, read_page: Any) -> None:
    written = write_report(make_run([]))
    assert (written.cases, written.shown) == (0, 0)
    assert "There are no label maps here, so there are no cases to show." in read_page(written.path).text


def test_one_case(make_run: MakeRun, tmp_path: Path, read_page: Any) -> None:
    page = read_page(write_report(make_run(["only"]), truth=tmp_path / "truth").path)
    assert "1 case, the worst first: by their mean Dice" in page.text


def test_some_cases_without_truth(make_run: MakeRun, tmp_path: Path, read_page: Any) -> None:
    folder = make_run()
    (tmp_path / "truth" / "a.nii.gz").unlink()
    page = read_page(write_report(folder, truth=tmp_path / "truth", images=tmp_path / "images").path)
    assert "by their mean Dice; cases without truth follow" in page.text
    assert re.search(r"a - - - 2 of 2 there is no truth for it", page.text)
    assert page.pictures[-1].startswith("a, sagittal")


def test_classes_that_are_absent(make_run: MakeRun, tmp_path: Path, read_page: Any, volumes: Any) -> None:
    folder = make_run(["a"], labels={"background": 0, "one": 1, "two": 2, "three": 3})
    truth = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "truth" / "a.nii.gz")))
    volumes.write(tmp_path / "truth" / "a.nii.gz", np.where(truth == 1, 3, 0).astype(np.uint8), spacing=(1, 1, 2))
    volumes.write(folder / "a.nii.gz", np.where(truth == 2, 1, 0).astype(np.uint8), spacing=(1, 1, 2))
    page = read_page(write_report(folder, truth=tmp_path / "truth").path)
    assert re.search(r"one 0\.000 0\.000 - 1\.32 0\.00 not in the truth", page.text)
    assert "Absent in both: two." in page.text
    assert re.search(r"three 0\.000 0\.000 - 0\.00 [\d.]+ missed", page.text)
    empty = np.zeros(volumes.shape, np.uint8)
    volumes.write(folder / "a.nii.gz", empty, spacing=(1, 1, 2))
    page = read_page(write_report(folder).path)
    assert "0 of 3" in page.text
    assert len(page.pictures) == 3


def test_other_geometry_is_left_out_and_said(make_run: MakeRun, tmp_path: Path, read_page: Any, volumes: Any) -> None:
    folder = make_run()
    truth = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "truth" / "a.nii.gz")))
    volumes.write(tmp_path / "truth" / "a.nii.gz", truth[:-1], spacing=(1, 1, 2))
    volumes.write(tmp_path / "truth" / "b.nii.gz", truth, spacing=(1, 1, 3))
    volumes.write(tmp_path / "images" / "c_0000.nii.gz", truth[:, :-1].astype(np.float32), spacing=(1, 1, 2))
    page = read_page(write_report(folder, images=tmp_path / "images", truth=tmp_path / "truth").path)
    assert "the truth is left out, it has 24 x 22 x 19 voxels instead of 24 x 22 x 20:" in page.text
    assert "the truth is left out, it has another place, up to 19 mm away" in page.text
    assert "the image is left out, it has 24 x 21 x 20 voxels instead of 24 x 22 x 20:" in page.text
    assert any(alt.startswith("c, axial") and "no image, outlines" in alt for alt in page.pictures)


def test_files_that_can_not_be_read(make_run: MakeRun, tmp_path: Path, read_page: Any, volumes: Any) -> None:
    folder = make_run()
    (folder / "a.nii.gz").write_bytes(b"no image")
    (tmp_path / "truth" / "b.nii.gz").write_bytes(b"no image")
    (tmp_path / "images" / "c_0000.nii.gz").write_bytes(b"no image")
    (folder / "plans.json").write_text("{")
    page = read_page(write_report(folder, images=tmp_path / "images", truth=tmp_path / "truth").path)
    assert re.search(r"a - - - 0 of 0 .*a\.nii\.gz can't be read as an image", page.text)
    assert "the truth: " in page.text
    assert "the image: " in page.text
    assert "plans.json is no JSON" in page.text
    assert "is left out" in page.text
    volumes.write(folder / "a.nii.gz", np.full(volumes.shape, 0.5, np.float32))
    assert "a.nii.gz is no label map: it must hold whole numbers" in read_page(write_report(folder).path).text
    assert write_report(folder).unreadable == ("a",)


def test_regions_and_ignored_voxels(make_run: MakeRun, tmp_path: Path, read_page: Any, volumes: Any) -> None:
    labels = {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}
    folder = make_run(["a"], labels=labels)
    description = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**description, "regions_class_order": [1, 2]}))
    truth = np.zeros(volumes.shape, np.uint8)
    truth[4:8, 4:8, 4:8], truth[6:8, 4:8, 4:8], truth[:, :, 10:] = 1, 2, 3
    predicted = np.where(truth == 3, 1, truth).astype(np.uint8)
    for where, voxels in (("truth", truth), ("predictions", predicted)):
        volumes.write(tmp_path / where / "a.nii.gz", voxels, spacing=(1, 1, 2))
    page = read_page(write_report(folder, truth=tmp_path / "truth").path)
    # what was predicted where the truth is ignored does not count
    assert re.search(r"whole 1\.000 1\.000 0\.0 0\.13 0\.13", page.text)
    assert re.search(r"core 1\.000 1\.000 0\.0 0\.06 0\.06", page.text)
    assert "whole" in page.text
    assert "ignore 0" not in page.text


def test_values_that_no_class_has_and_labels_that_name_none(make_run: MakeRun, read_page: Any) -> None:
    folder = make_run(["a"], labels={"background": 0, "one": 1})
    assert "values that no class has: 2" in read_page(write_report(folder).path).text
    (folder / "dataset.json").write_text(json.dumps({"labels": ["one", "two"], "file_ending": ".nii.gz"}))
    text = read_page(write_report(folder).path).text
    assert "name no classes; these are called by their values" in text
    assert "label 2" in text
    (folder / "dataset.json").unlink()
    assert "nothing names the classes here (no dataset.json)" in read_page(write_report(folder).path).text


def test_keep_maps_of_a_bundle_that_has_written_elsewhere(tmp_path: Path, volumes: Any) -> None:
    """Its label maps have a postfix, and its keep maps none."""
    volumes.write(tmp_path / "a_seg.nii.gz", np.ones((10, 10, 10), np.uint8))
    keep = volumes.write(tmp_path / "keep_maps" / "a.nii.gz", np.ones((10, 10, 10), np.uint8))
    write_colours(tmp_path / "keep_maps", 3)
    assert find_run(tmp_path).keep_maps["a_seg"] == keep


def test_images_for_label_maps(tmp_path: Path, read_page: Any, volumes: Any) -> None:
    volumes.write(tmp_path / "a.nii.gz", np.arange(10 * 10 * 10, dtype=np.int16).reshape(10, 10, 10))
    page = read_page(write_report(tmp_path).path)
    assert "the label maps hold 999 values, and nothing names them: more than 256 are those of images" in page.text
    assert len(page.pictures) == 3


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("summary.json", '{"metric_per_case": [1, {"prediction_file": null, "reference_file": 3}]}'),
        ("summary.json", '{"metric_per_case": {"a": 1}}'),
        (
            "scd_predict.json",
            '{"runs": [{"settings": {"versions": null, "input": 3}, "wall_seconds": 1, "cases": []}]}',
        ),
        (
            "scd_predict.json",
            '{"runs": [{"settings": {"a": 1}, "wall_seconds": 1, "cases": [{"case": "a", "seconds": {"read": "x"}}]}]}',
        ),
        ("scd_predict.json", "[1]"),
        ("plans.json", "[1]"),
        ("dataset.json", '{"labels": null, "file_ending": 3}'),
        ("dataset.json", "{}"),
        ("dataset.json", '{"labels": {"background": 0, "one": 1}, "file_ending": ".nrrd"}'),
        ("predict_from_raw_data_args.json", '{"list_of_lists_or_source_folder": [["a"]]}'),
        ("val_mean_dice_raw.csv", "filename,class0\n,\na,b,c,d\n"),
        ("events.out.tfevents.1", "no events"),
        ("token_audit.csv", "epoch\n"),
    ],
)
def test_odd_files_beside_do_no_harm(make_run: MakeRun, read_page: Any, file: str, content: str) -> None:
    folder = make_run(["a"])
    (folder / file).write_text(content)
    assert len(read_page(write_report(folder).path).pictures) == 3


def test_flat_colour_images(tmp_path: Path, read_page: Any, volumes: Any) -> None:
    label = np.zeros((30, 40), np.uint8)
    label[5:15, 5:25] = 1
    for folder, shift in (("truth", 0), ("predictions", 2)):
        volumes.write(tmp_path / folder / "a.png", np.roll(label, shift, axis=0))
    colours = np.stack([label * 90 + 20] * 3, axis=-1)
    volumes.write(tmp_path / "images" / "a_0000.png", colours, channels=True)
    description = {
        "labels": {"background": 0, "cell": 1},
        "file_ending": ".png",
        "channel_names": {"0": "R", "1": "G", "2": "B"},
    }
    (tmp_path / "predictions" / "dataset.json").write_text(json.dumps(description))
    page = read_page(write_report(tmp_path / "predictions", images=tmp_path / "images", truth=tmp_path / "truth").path)
    assert re.search(r"cell 0\.800 1\.000 2\.0 200 200", page.text)
    assert "up to 2 pixels" in page.text
    assert "the image: the first of 3 channels is shown" in page.text
    assert page.pictures == [f"a, image: image with outlines of the {what}: cell" for what in ("prediction", "truth")]


def test_images_with_time(make_run: MakeRun, tmp_path: Path, read_page: Any) -> None:
    folder = make_run(["a"])
    path = tmp_path / "images" / "a_0000.nii.gz"
    image = sitk.ReadImage(str(path))
    sitk.WriteImage(sitk.JoinSeries([image, image + 1]), str(path))
    page = read_page(write_report(folder, images=tmp_path / "images").path)
    assert "the image: the first of 2 along axis 4 is shown" in page.text
    assert "image with outlines" in page.pictures[0]


def test_keep_maps_times_and_settings(make_run: MakeRun, tmp_path: Path, read_page: Any, volumes: Any) -> None:
    folder = make_run(["a", "b"])
    assert "There are no keep maps" in read_page(write_report(folder).path).text
    keep = np.full(volumes.shape, 2, np.uint8)
    volumes.write(folder / "keep_maps" / "a.nii.gz", keep, spacing=(1, 1, 2))
    volumes.write(folder / "keep_maps" / "b.nii.gz", keep[:-1], spacing=(1, 1, 2))
    seconds = {"read": 1.5, "network": 20}
    cases = [
        {"case": "a", "seconds": seconds},
        {"case": "b", "seconds": {"read": 0.5}},
        {"case": "c", "error": "read: no"},
    ]
    settings = {
        "command": "scd predict -i x",
        "input": str(tmp_path / "images"),
        "folds": ["0", "1"],
        "versions": {"torch": "2.8"},
    }
    killed = {"settings": settings, "wall_seconds": None, "cases": [{"case": "a", "error": "not finished"}]}
    record = {"runs": [killed, {"settings": settings, "wall_seconds": 23, "cases": cases}]}
    (folder / "scd_predict.json").write_text(json.dumps(record))
    text = read_page(write_report(folder).path).text
    assert "keep_map.ctbl, which names their values, can't be read" in text
    write_colours(folder / "keep_maps", 3)
    page = read_page(write_report(folder).path)
    assert "left at stage 1 left at stage 2 left at stage 3 kept to the end" in page.text
    assert "a, axial, slice 5 of 20: at which stage the tokens left" in page.pictures
    assert "the keep map is left out, it has 24 x 22 x 19 voxels" in page.text
    # the images are where the file says
    assert "image with outlines" in page.pictures[0]
    assert "c was not predicted: read: no" in page.text
    assert "read 2.0 1.00 1.50 a" in page.text
    assert "the whole run, stages side by side 23.0" in page.text
    assert "command scd predict -i x" in page.text
    assert "folds 0, 1" in page.text
    assert "torch 2.8" in page.text
    (folder / "scd_predict.json").write_text(json.dumps({"runs": [{"settings": 3}]}))
    assert "scd_predict.json can't be understood as a file of times" in read_page(write_report(folder).path).text


def test_predictions_of_nnunet_itself_name_images_and_truth(make_run: MakeRun, tmp_path: Path, read_page: Any) -> None:
    folder = make_run()
    (folder / "predict_from_raw_data_args.json").write_text(
        json.dumps({"list_of_lists_or_source_folder": str(tmp_path / "images"), "overwrite": True})
    )
    cases = [
        {
            "prediction_file": str(folder / f"{name}.nii.gz"),
            "reference_file": str(tmp_path / "truth" / f"{name}.nii.gz"),
        }
        for name in "abc"
    ]
    (folder / "summary.json").write_text(json.dumps({"metric_per_case": cases}))
    page = read_page(write_report(folder).path)
    assert "by their mean Dice" in page.text
    assert "image with outlines" in page.pictures[0]
    assert "overwrite True" in page.text


def test_the_same_folder_gives_the_same_page(make_run: MakeRun, tmp_path: Path) -> None:
    folder, pages = make_run(), []
    for number in range(2):
        path = write_report(folder, tmp_path / f"{number}.html", truth=tmp_path / "truth").path
        pages.append(re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "", path.read_text(encoding="utf-8")))
    assert pages[0] == pages[1]


def test_a_page_that_can_not_be_written_leaves_the_one_before(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_run(["a"])
    (folder / "report.html").write_text("before")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match=r"report.html can't be written \(No space left on device\)"):
        write_report(folder)
    assert (folder / "report.html").read_text() == "before"
