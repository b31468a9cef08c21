"""`scd predict` against nnU-Net's own prediction, and what happens where something is wrong."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from batchgenerators.utilities.file_and_folder_operations import load_pickle
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from scd_plugin.nnunet.predict.clock import STAGES
from scd_plugin.nnunet.predict.jobs import Case
from scd_plugin.nnunet.predict.run import predict
from scd_plugin.nnunet.predict.settings import PredictSettings
from scd_plugin.nnunet.predict.steps import Steps

MakeModel = Callable[..., Path]
ON_CPU = PredictSettings(device="cpu")


def voxels(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def regions(plans: dict[str, Any], dataset: dict[str, Any]) -> None:
    """Two channels with z-scores, one inside a mask; regions that overlap; an ignore label."""
    plans["foreground_intensity_properties_per_channel"]["1"] = {}
    plans["configurations"]["3d_fullres"].update(
        normalization_schemes=["ZScoreNormalization", "RescaleTo01Normalization"], use_mask_for_norm=[True, False]
    )
    dataset["channel_names"] = {"0": "MR", "1": "rescale_to_0_1"}
    dataset["labels"] = {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}
    dataset["regions_class_order"] = [1, 2]


SLOW = pytest.mark.slow


def ignore(plans: dict[str, Any], dataset: dict[str, Any]) -> None:  # noqa: ARG001
    dataset["labels"]["ignore"] = 3


def nothing(plans: dict[str, Any], dataset: dict[str, Any]) -> None:
    """As they are."""


@pytest.mark.parametrize(
    ("change", "configuration", "trainer", "folds", "axes", "channels"),
    [
        pytest.param(nothing, "3d_fullres", "nnUNetTrainer", ("0", "1"), (0, 1, 2), 1, id="two folds", marks=SLOW),
        pytest.param(nothing, "2d", "nnUNetTrainer", ("all",), (0, 1), 1, id="2d", marks=SLOW),
        pytest.param(regions, "3d_fullres", "nnUNetTrainer", ("3",), None, 2, id="regions", marks=SLOW),
        pytest.param(ignore, "3d_fullres", "nnUNetTrainerSCD_demo", ("0",), (2,), 1, id="SCD"),
    ],
)
def test_same_bytes_as_nnunet(
    make_model: MakeModel,
    make_images: Callable[..., Path],
    by_nnunet: Callable[..., Path],
    plans: dict[str, Any],
    dataset: dict[str, Any],
    tmp_path: Path,
    change: Callable[..., None],
    configuration: str,
    trainer: str,
    folds: tuple[str, ...],
    axes: tuple[int, ...] | None,
    channels: int,
) -> None:
    change(plans, dataset)
    model = make_model(plans, dataset, configuration=configuration, trainer=trainer, folds=folds, mirror_axes=axes)
    images = make_images(num_channels=channels)
    times = predict(images, tmp_path / "ours", model, ON_CPU)
    assert [(one.case, one.error, one.folds, one.mirrored_passes) for one in times] == [
        (name, None, folds, 2 ** len(axes or ())) for name in ("a", "b")
    ]
    expected = by_nnunet(model, images, folds=folds)
    for name in ("a.nii.gz", "b.nii.gz"):
        assert len(np.unique(voxels(expected / name))) > 1
        assert (tmp_path / "ours" / name).read_bytes() == (expected / name).read_bytes()


@pytest.mark.slow
def test_second_stage_of_a_cascade(
    make_model: MakeModel,
    make_images: Callable[..., Path],
    write: Callable[[Path, np.ndarray], Path],
    by_nnunet: Callable[..., Path],
    tmp_path: Path,
) -> None:
    model, images = make_model(configuration="3d_cascade_fullres"), make_images()
    rng = np.random.default_rng(1)
    for name in ("a", "b"):
        before = rng.integers(0, 3, (7, 12, 11), dtype=np.uint8).repeat(2, 0).repeat(2, 1).repeat(3, 2)[:, :23]
        write(tmp_path / "before" / f"{name}.nii.gz", before)
    times = predict(images, tmp_path / "ours", model, PredictSettings(device="cpu", previous_stage=tmp_path / "before"))
    assert [one.error for one in times] == [None, None]
    expected = by_nnunet(model, images, previous=tmp_path / "before")
    for name in ("a.nii.gz", "b.nii.gz"):
        assert (tmp_path / "ours" / name).read_bytes() == (expected / name).read_bytes()
    write(tmp_path / "before" / "a.nii.gz", np.zeros((3, 4, 5), np.uint8))
    (tmp_path / "before" / "b.nii.gz").unlink()
    settings = PredictSettings(device="cpu", previous_stage=tmp_path / "before")
    a, b = predict(images, tmp_path / "ours", model, settings)
    assert a.error == (
        "preprocess: the label map of the previous stage has the shape (3, 4, 5) where the image has (14, 23, 33); "
        "predict the previous stage on these images"
    )
    assert b.error is not None
    assert "the previous stage has no label map of it" in b.error


def test_probabilities_as_nnunet_saves_them(
    make_model: MakeModel, make_images: Callable[..., Path], by_nnunet: Callable[..., Path], tmp_path: Path
) -> None:
    model, images = make_model(), make_images(["a"])
    predict(images, tmp_path / "ours", model, PredictSettings(device="cpu", save_probabilities=True))
    expected = by_nnunet(model, images, save_probabilities=True)
    ours, theirs = (np.load(folder / "a.npz")["probabilities"] for folder in (tmp_path / "ours", expected))
    np.testing.assert_array_equal(ours, theirs)
    assert ours.shape == (3, 14, 23, 33)
    assert (tmp_path / "ours" / "a.nii.gz").read_bytes() == (expected / "a.nii.gz").read_bytes()
    properties = [load_pickle(str(folder / "a.pkl")) for folder in (tmp_path / "ours", expected)]
    assert properties[0] == properties[1]


def test_empty_windows_change_nothing(
    make_model: MakeModel,
    write: Callable[[Path, np.ndarray], Path],
    by_nnunet: Callable[..., Path],
    plans: dict[str, Any],
    tmp_path: Path,
) -> None:
    voxels = np.full((30, 40, 50), -1000, np.int16)
    voxels[10:20, 14:26, 20:36] = np.random.default_rng(0).integers(-100, 200, (10, 12, 16))
    images = write(tmp_path / "images" / "a_0000.nii.gz", voxels).parent
    # that of the image: what cubic resampling leaves of an edge reaches a dozen voxels far
    plans["configurations"]["3d_fullres"]["spacing"] = [1.1, 2.5, 0.9]
    model = make_model(plans, mirror_axes=(0,))
    (one,) = predict(images, tmp_path / "ours", model, PredictSettings(device="cpu", skip_empty=True))
    assert (one.windows_computed, one.windows) == (61, 72)
    expected = by_nnunet(model, images)
    assert (tmp_path / "ours" / "a.nii.gz").read_bytes() == (expected / "a.nii.gz").read_bytes()


def test_windows_in_batches(make_model: MakeModel, make_images: Callable[..., Path], tmp_path: Path) -> None:
    model, images = make_model(), make_images(["a"])
    predict(images, tmp_path / "one", model, PredictSettings(device="cpu", mirroring=False))
    (one,) = predict(images, tmp_path / "many", model, PredictSettings(device="cpu", mirroring=False, batch=4))
    assert one.mirrored_passes == 1
    assert one.windows > 4
    same = voxels(tmp_path / "one" / "a.nii.gz") == voxels(tmp_path / "many" / "a.nii.gz")
    # near ties of weights drawn at random
    assert same.mean() > 0.999


def test_torch_resampling(make_model: MakeModel, make_images: Callable[..., Path], tmp_path: Path) -> None:
    model, images = make_model(), make_images(["a"])
    predict(images, tmp_path / "nnunet", model, ON_CPU)
    predict(images, tmp_path / "torch", model, PredictSettings(device="cpu", resampling="torch"))
    same = voxels(tmp_path / "nnunet" / "a.nii.gz") == voxels(tmp_path / "torch" / "a.nii.gz")
    assert same.mean() > 0.99
    assert (tmp_path / "torch" / "plans.json").read_text() == (model / "plans.json").read_text()


class TestWhatIsWritten:
    def test_folder(self, make_model: MakeModel, make_images: Callable[..., Path], tmp_path: Path) -> None:
        model = make_model(folds=("0", "2"))
        predict(make_images(), tmp_path / "new" / "ours", model, PredictSettings(device="cpu", folds=["2"]))
        names = sorted(path.name for path in (tmp_path / "new" / "ours").iterdir())
        assert names == ["a.nii.gz", "b.nii.gz", "dataset.json", "plans.json", "scd_predict.json"]
        for name in ("dataset.json", "plans.json"):
            assert (tmp_path / "new" / "ours" / name).read_bytes() == (model / name).read_bytes()
        (run,) = json.loads((tmp_path / "new" / "ours" / "scd_predict.json").read_text())["runs"]
        assert run["settings"]["trainer"] == "nnUNetTrainer"
        assert run["settings"]["folds"] == ["2"]
        assert run["settings"]["mirror_axes"] == [1]
        assert run["settings"]["versions"].keys() == {"python", "scd-plugin", "nnunetv2", "torch"}
        a, b = run["cases"]
        assert (a["case"], b["case"]) == ("a", "b")
        assert a["seconds"].keys() == set(STAGES)
        assert (a["folds"], a["mirrored_passes"], a["windows"], a["windows_computed"]) == (["2"], 2, 6, 6)

    def test_file(self, make_model: MakeModel, make_images: Callable[..., Path], tmp_path: Path) -> None:
        images = make_images(["a"])
        (tmp_path / "out").mkdir()
        predict(images / "a_0000.nii.gz", tmp_path / "out" / "mine.nii.gz", make_model(), ON_CPU)
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["mine.nii.gz", "mine_scd_predict.json"]
        assert voxels(tmp_path / "out" / "mine.nii.gz").shape == (14, 23, 33)

    def test_times_elsewhere(self, make_model: MakeModel, make_images: Callable[..., Path], tmp_path: Path) -> None:
        settings = PredictSettings(device="cpu", times=tmp_path / "logs" / "t.json")
        predict(make_images(["a"]), tmp_path / "ours", make_model(), settings)
        assert len(json.loads((tmp_path / "logs" / "t.json").read_text())["runs"]) == 1
        assert not (tmp_path / "ours" / "scd_predict.json").exists()

    def test_continue(self, make_model: MakeModel, make_images: Callable[..., Path], tmp_path: Path) -> None:
        model, images, output = make_model(), make_images(), tmp_path / "ours"
        predict(images, output, model, ON_CPU)
        (output / "a.nii.gz").write_bytes(b"mine")
        settings = PredictSettings(device="cpu", keep_existing=True)
        assert predict(images, output, model, settings) == []
        (output / "b.nii.gz").unlink()
        assert [one.case for one in predict(images, output, model, settings)] == ["b"]
        assert (output / "a.nii.gz").read_bytes() == b"mine"
        runs = json.loads((output / "scd_predict.json").read_text())["runs"]
        assert [[one["case"] for one in run["cases"]] for run in runs] == [["a", "b"], ["b"]]
        predict(images, output, model, ON_CPU)
        assert voxels(output / "a.nii.gz").shape == (14, 23, 33)


def test_half_an_image_is_no_image(make_model: MakeModel, make_images: Callable[..., Path], tmp_path: Path) -> None:
    """ITK would read what is missing as 0."""
    images = make_images()
    for name, part in (("a", 2), ("b", 1)):
        file = images / f"{name}_0000.nii.gz"
        file.write_bytes(file.read_bytes()[: file.stat().st_size // part])
    failed, done = predict(images, tmp_path / "ours", make_model(), ON_CPU)
    assert failed.error is not None
    assert re.search(r"read: .*a_0000.nii.gz is cut off: it holds [1-9]\d+ of 21604 bytes", failed.error)
    assert done.error is None
    assert not (tmp_path / "ours" / "a.nii.gz").exists()


@pytest.mark.parametrize("part", [0, 0.5], ids=["empty", "half"])
def test_half_a_result_is_no_result(
    make_model: MakeModel,
    make_images: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    part: float,
) -> None:
    """As on a full disk, where ITK's writers say nothing."""
    model, images, output = make_model(), make_images(), tmp_path / "ours"
    write = SimpleITKIO.write_seg

    def write_in_part(self: SimpleITKIO, segmentation: np.ndarray, file: str, properties: dict[str, Any]) -> None:
        write(self, segmentation, file, properties)
        if "b.nii" in file:
            Path(file).write_bytes(Path(file).read_bytes()[: int(part * Path(file).stat().st_size)])

    monkeypatch.setattr(SimpleITKIO, "write_seg", write_in_part)
    done, failed = predict(images, output, model, ON_CPU)
    assert done.error is None
    reason = "it could not be read back as it was written; is the disk full?"
    kept = "what was there is kept: mend that, and do it again"
    assert failed.error == f"write: {output / 'b.nii.gz'} can't be written ({reason}); {kept}"
    assert not (output / "b.nii.gz").exists()
    monkeypatch.undo()
    settings = PredictSettings(device="cpu", keep_existing=True)
    assert [one.case for one in predict(images, output, model, settings)] == ["b"]
    assert voxels(output / "b.nii.gz").shape == (14, 23, 33)


def damaged(images: Path, write: Callable[[Path, np.ndarray], Path]) -> dict[str, str]:
    """Cases b to f, each with something wrong, and what is said of them."""
    shutil.copy(images / "a_0000.nrrd", images / "b_0001.nrrd")
    (images / "c_0000.nrrd").write_bytes(b"no image")
    broken = voxels(images / "a_0000.nrrd").astype(np.float32)
    broken[3, 4, 5] = np.nan
    write(images / "d_0000.nrrd", broken)
    for channel in range(2):
        shutil.copy(images / "a_0000.nrrd", images / f"e_000{channel}.nrrd")
    (images / "f_0000.nrrd").touch()
    return {
        "b": "read: channels must be the files b_0000.nrrd, _0001, ...; there are b_0001.nrrd",
        "c": "c_0000.nrrd can't be read as an image: it is damaged, or of another format",
        "d": "read: channel CT holds NaN or infinite voxels",
        "e": "has 2 channels where the network takes 1: CT",
        "f": "f_0000.nrrd can't be read as an image: it is damaged, or of another format",
    }


def test_cases_that_fail_are_named_and_the_others_go_on(
    make_model: MakeModel,
    make_images: Callable[..., Path],
    write: Callable[[Path, np.ndarray], Path],
    dataset: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    dataset["file_ending"] = ".nrrd"
    images = make_images(["a", "g"], ending=".nrrd")
    expected = damaged(images, write)
    times = predict(images, tmp_path / "ours", make_model(dataset=dataset), ON_CPU)
    errors = {one.case: one.error for one in times}
    assert list(errors) == list("abcdefg")
    assert errors["a"] is None
    assert errors["g"] is None
    said = capsys.readouterr().err
    for case, message in expected.items():
        assert message in str(errors[case])
        assert f"failed: {case}: {errors[case]}\n" in said
    label_maps = sorted(path.name for path in (tmp_path / "ours").glob("*.nrrd"))
    assert label_maps == ["a.nrrd", "g.nrrd"]
    assert not list((tmp_path / "ours").glob(".*"))


def test_a_network_that_gives_nan(make_model: MakeModel, make_images: Callable[..., Path], tmp_path: Path) -> None:
    model = make_model()
    file = model / "fold_0" / "checkpoint_final.pth"
    checkpoint = torch.load(file, weights_only=False)
    checkpoint["network_weights"]["decoder.seg_layers.1.bias"][:] = np.nan
    torch.save(checkpoint, file)
    (one,) = predict(make_images(["a"]), tmp_path / "ours", model, ON_CPU)
    assert one.error == "network: the network's output is NaN for this image, so a label map would mean nothing"
    assert not (tmp_path / "ours" / "a.nii.gz").exists()


def test_an_interrupted_run_keeps_its_times(
    make_model: MakeModel, make_images: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Steps.network

    def interrupted(self: Steps, case: Case, prepared: Any) -> Any:
        if case.name == "c":
            raise KeyboardInterrupt
        return network(self, case, prepared)

    monkeypatch.setattr(Steps, "network", interrupted)
    before = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt):
        predict(make_images(["a", "b", "c"]), tmp_path / "ours", make_model(), ON_CPU)
    (run,) = json.loads((tmp_path / "ours" / "scd_predict.json").read_text())["runs"]
    assert [one["case"] for one in run["cases"]] == ["a"]
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("can", "expected"),
    [
        (True, ["asked for cpu", "a", "trimmed", "b", "trimmed", "over"]),
        (False, ["asked for cpu", "a", "b", "over"]),
    ],
    ids=["kept", "left alone"],
)
def test_freed_memory_is_kept_while_it_predicts_and_no_longer(
    make_model: MakeModel,
    make_images: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    can: bool,
    expected: list[str],
) -> None:
    order: list[str] = []

    @contextmanager
    def kept(device: torch.device) -> Iterator[bool]:
        order.append(f"asked for {device}")
        yield can
        order.append("over")

    network = Steps.network

    def noted(self: Steps, case: Case, prepared: Any) -> Any:
        order.append(case.name)
        return network(self, case, prepared)

    monkeypatch.setattr("scd_plugin.nnunet.predict.run.freed_memory_kept", kept)
    monkeypatch.setattr("scd_plugin.nnunet.predict.steps.give_freed_memory_back", lambda: order.append("trimmed"))
    monkeypatch.setattr(Steps, "network", noted)
    predict(make_images(["a", "b"]), tmp_path / "ours", make_model(), ON_CPU)
    assert order == expected


def test_what_is_not_written_whole_is_not_there(
    make_model: MakeModel, make_images: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = SimpleITKIO.write_seg

    def cut_off(self: SimpleITKIO, segmentation: np.ndarray, file: str, properties: dict[str, Any]) -> None:
        write(self, segmentation, file, properties)
        if Path(file).name == "a.nii.gz":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(SimpleITKIO, "write_seg", cut_off)
    a, b = predict(make_images(), tmp_path / "ours", make_model(), ON_CPU)
    assert str(a.error).startswith(f"write: {tmp_path}/ours/a.nii.gz can't be written (No space left on device); what")
    assert b.error is None
    names = sorted(path.name for path in (tmp_path / "ours").iterdir())
    assert names == ["b.nii.gz", "dataset.json", "plans.json", "scd_predict.json"]


def test_what_is_not_taken_is_said(
    make_model: MakeModel, make_images: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = make_images(["a"])
    shutil.copy(images / "a_0000.nii.gz", images / "mask.nii.gz")
    assert [one.case for one in predict(images, tmp_path / "ours", make_model(), ON_CPU)] == ["a"]
    note = f"note: left out of {images}: images without a channel number (NAME_0000) beside images with one: 1\n"
    assert capsys.readouterr().err == note
