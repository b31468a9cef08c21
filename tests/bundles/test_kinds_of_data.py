"""The bundles on data and with settings of other kinds: regions, DICOM, sizes of one's own, the model zoo's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from monai.bundle import ConfigWorkflow

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def settings(bundle: Any) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((bundle.configs / "inference.json").read_text())
    return content


def test_regions_in_ct_and_pet(volumes: Any, tmp_path: Path, untrained: Callable[[Path], Any]) -> None:
    """nnU-Net's layout: a file for each channel, labels that overlap."""
    data = volumes.nnunet(
        tmp_path / "Dataset001_HeadNeck",
        channel_names=("CT", "PET"),
        labels={"background": 0, "whole": [1, 2], "core": 2},
        regions_class_order=[1, 2],
    )
    bundle = untrained(data)
    bundle.run("train", **bundle.overrides)
    recorded = settings(bundle)
    assert (recorded["network_def"]["in_channels"], recorded["network_def"]["out_channels"]) == (2, 2)
    assert recorded["regions_order"] == [1, 2]
    assert recorded["intensity"]["_target_"] == "Compose"
    bundle.run("inference")
    # images are named by their first channel
    results = sorted((bundle.root / "eval").glob("*.nii.gz"))
    assert [path.name for path in results] == [f"case_{i}_0000_seg.nii.gz" for i in range(4)]
    label = sitk.ReadImage(str(results[0]))
    assert label.GetSize() == volumes.shape[::-1]
    assert set(np.unique(sitk.GetArrayFromImage(label))) <= {0, 1, 2}


def test_sizes_of_ones_own(volumes: Any, tmp_path: Path, untrained: Callable[[Path], Any]) -> None:
    bundle = untrained(volumes.plain(tmp_path / "data"))
    bundle.run("train", **bundle.overrides, **{"network_def#hidden_size": 48, "img_size": [16, 16, 8]})
    network = settings(bundle)["network_def"]
    assert (network["hidden_size"], network["img_size"], network["patch_size"]) == (48, [16, 16, 8], [4, 4, 4])
    image = json.loads((bundle.configs / "metadata.json").read_text())["network_data_format"]["inputs"]["image"]
    assert image["spatial_shape"] == [16, 16, 8]
    bundle.run("inference")
    assert len(list((bundle.root / "eval").glob("case_*_seg.nii.gz"))) == 4


# narrower and shallower than the preset
SMALL_PRIMUS = {"network_def#hidden_size": 48, "network_def#num_heads": 4, "network_def#num_layers": 4}


@pytest.mark.parametrize(
    ("preset", "changes", "target"),
    [
        ("tiny-fast", {"keep_ratio": None}, "scd_plugin.SCDUNETR"),
        ("primusv2-s", {"keep_ratio": None, **SMALL_PRIMUS}, "scd_plugin.SCDPrimus"),
    ],
)
def test_another_preset(
    preset: str, changes: dict[str, Any], target: str, volumes: Any, tmp_path: Path, untrained: Callable[[Path], Any]
) -> None:
    """Trained, gone on with, evaluated and used, none of which needs the size again but a training that goes on."""
    bundle = untrained(volumes.plain(tmp_path / "data"))
    options = {**bundle.overrides, **changes, "size": preset}
    bundle.run("train", **options)
    bundle.run("train", **{**options, "epochs": 2, "resume": True})
    assert settings(bundle)["network_def"]["_target_"] == target
    best = json.loads((bundle.root / "models" / "best.json").read_text())
    assert best["preset"] == preset
    bundle.run("train", "evaluate", num_workers=0)
    dice = float((bundle.root / "eval" / "metrics.csv").read_text().split(",")[1])
    assert dice == pytest.approx(best["value"], abs=1e-5)
    bundle.run("inference")
    assert len(list((bundle.root / "eval").glob("case_*_seg.nii.gz"))) == 4


# brain tumours take four channels, and such a file or series has one
one_channel = pytest.mark.parametrize(
    "trained", ["scd_unetr_segmentation", "scd_unetr_btcv_segmentation"], indirect=True
)


@one_channel
def test_dicom_folders_with_dots(trained: Any, volumes: Any, tmp_path: Path) -> None:
    series = ("1.2.840.4", "1.2.840.5", "patient.2")
    for i, name in enumerate(series):
        volumes.series(tmp_path / "dicom" / name, f"1.2.{i}", slices=5 + i)
    bundle = replace(trained, data=tmp_path / "dicom")
    bundle.run("inference", output_dir=str(tmp_path / "out"))
    sizes = {path.name: sitk.ReadImage(str(path)).GetSize() for path in (tmp_path / "out").iterdir()}
    assert sizes == {f"{name}_seg.nii.gz": (8, 8, 5 + i) for i, name in enumerate(series)}


@one_channel
def test_mha_and_nrrd(trained: Any, volumes: Any, tmp_path: Path) -> None:
    image = np.zeros(volumes.shape, np.float32)
    for name in ("a.b.mha", "c.nrrd"):
        volumes.write(tmp_path / "images" / name, image, spacing=(1.0, 1.0, 2.0))
    bundle = replace(trained, data=tmp_path / "images")
    bundle.run("inference", output_dir=str(tmp_path / "out"))
    results = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in results] == ["a.b_seg.nii.gz", "c_seg.nii.gz"]
    assert sitk.ReadImage(str(results[0])).GetSpacing() == pytest.approx((1.0, 1.0, 2.0))


class TestAsTheModelZoo:
    """The overrides of the zoo's unit tests. Its `images` and `labels` are folders from which its configs list files;
    these bundles read data sets of every layout instead, so `dataset#data` is what its tests have to set."""

    def workflow(self, trained: Any, kind: str, *names: str, **override: Any) -> ConfigWorkflow:
        workflow = ConfigWorkflow(
            workflow_type=kind,
            config_file=trained.config(*names),
            meta_file=str(trained.configs / "metadata.json"),
            logging_file=str(trained.configs / "logging.conf"),
            bundle_root=str(trained.root),
            **override,
        )
        workflow.initialize()
        assert workflow.check_properties() == []
        return workflow

    def data(self, trained: Any) -> list[dict[str, str]]:
        images = sorted((trained.data / "images").iterdir())
        return [{"image": str(path), "label": str(trained.data / "labels" / path.name)} for path in images]

    def test_one_epoch(self, trained: Any, tmp_path: Path) -> None:
        root = Path(shutil.copytree(trained.root, tmp_path / trained.root.name))
        shutil.rmtree(root / "models")
        copy = replace(trained, root=root)
        cases = self.data(trained)
        window = settings(trained)["img_size"]
        override: dict[str, Any] = {
            **trained.overrides,
            "dataset_dir": str(trained.data),
            "datalist": {"training": cases[:3], "validation": cases[3:5]},
            "train#dataset#data": cases[:3],
            "validate#dataset#data": cases[3:5],
            "epochs": 1,
            "train#trainer#max_epochs": 1,
            "val_interval": 1,
            "train#dataset#cache_rate": 0.0,
            "validate#dataset#cache_rate": 0.0,
            "train#dataloader#num_workers": 0,
            "validate#dataloader#num_workers": 0,
            "train#random_transforms#0#spatial_size": window,
            "validate#inferer#roi_size": window,
        }
        workflow = self.workflow(copy, "train", "train", **override)
        workflow.run()
        workflow.finalize()
        assert (root / "models" / "last_checkpoint_epoch=1.pt").exists()
        assert (root / "models" / "model.pt").exists()
        # the zoo checks an evaluation as a training
        workflow = self.workflow(copy, "train", "train", "evaluate", **override)
        workflow.run()
        assert (root / "eval" / "metrics.csv").exists()

    def test_inference(self, trained: Any, tmp_path: Path) -> None:
        """With its weight loader, `handlers#0`, switched off, so that it runs without weights too."""
        root = Path(shutil.copytree(trained.root, tmp_path / trained.root.name))
        shutil.rmtree(root / "models")
        copy = replace(trained, root=root)
        images = [{"image": case["image"]} for case in self.data(trained)[:2]]
        workflow = self.workflow(
            copy,
            "infer",
            "inference",
            **{
                "dataset#data": images,
                "datalist": images,
                "inferer#roi_size": settings(copy)["img_size"],
                "handlers#0#_disabled_": True,
                "output_dir": str(tmp_path / "out"),
            },
        )
        workflow.run()
        assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["case_0_seg.nii.gz", "case_1_seg.nii.gz"]
