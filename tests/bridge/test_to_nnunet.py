"""Bundles as nnU-Net's models: there and back again, and bundles that never saw nnU-Net."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.bundle import ConfigParser
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.inference.sliding_window_prediction import compute_gaussian

from scd_plugin import SCDUNETR
from scd_plugin.bridge.from_monai.bundle_reader import read_weights
from scd_plugin.bridge.to_monai import to_monai
from scd_plugin.bridge.to_nnunet import bundle_to_nnunet
from scd_plugin.nnunet.model.recipe import read_recipe

# an anisotropic network, so that axes can't be mistaken for each other
NETWORK: dict[str, Any] = {
    "in_channels": 1,
    "out_channels": 3,
    "img_size": [32, 24, 16],
    "patch_size": [4, 4, 2],
    "feature_size": 8,
    "hidden_size": 96,
    "mlp_dim": 384,
    "num_heads": 3,
    "num_layers": 8,
    "prune_after": [2, 4, 6],
    "keep_ratio": 0.25,
    "pool_stride": [2, 2, 1],
}
CONFIG: dict[str, Any] = {
    "bundle_root": ".",
    "device": "$torch.device('cpu')",
    "dataset_dir": ".",
    "spacing": [0.9, 2.5, 1.1],
    "network_def": {"_target_": "scd_plugin.SCDUNETR", **NETWORK},
    "network": "$@network_def.to(@device)",
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": "image"},
            {"_target_": "EnsureChannelFirstd", "keys": "image"},
            {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS", "labels": None},
            {"_target_": "Spacingd", "keys": "image", "pixdim": "@spacing", "mode": "bilinear"},
            {
                "_target_": "ScaleIntensityRanged",
                "keys": "image",
                "a_min": -90,
                "a_max": 180,
                "b_min": 0,
                "b_max": 1,
                "clip": True,
            },
        ],
    },
    "dataset": {
        "_target_": "Dataset",
        "data": {
            "_target_": "scd_plugin.bridge.list_cases",
            "folder": "@dataset_dir",
            "file_ending": ".nii.gz",
            "num_channels": 1,
        },
        "transform": "@preprocessing",
    },
    "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1},
    "inferer": {
        "_target_": "SlidingWindowInferer",
        "roi_size": "@network_def::img_size",
        "overlap": 0.5,
        "mode": "gaussian",
    },
    "postprocessing": {
        "_target_": "Compose",
        "transforms": [
            {
                "_target_": "Invertd",
                "keys": "pred",
                "transform": "@preprocessing",
                "orig_keys": "image",
                "nearest_interp": False,
            },
            {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
            {
                "_target_": "SaveImaged",
                "keys": "pred",
                "output_dir": "$@bundle_root + '/eval'",
                "output_postfix": "",
                "separate_folder": False,
            },
        ],
    },
    "evaluator": {
        "_target_": "SupervisedEvaluator",
        "device": "@device",
        "val_data_loader": "@dataloader",
        "network": "@network",
        "inferer": "@inferer",
        "postprocessing": "@postprocessing",
        "val_handlers": [
            {
                "_target_": "CheckpointLoader",
                "load_path": "$@bundle_root + '/models/model.pt'",
                "load_dict": {"model": "@network"},
            }
        ],
    },
    "run": ["$@evaluator.run()"],
}
REGIONS = deepcopy(CONFIG)
REGIONS["postprocessing"]["transforms"][1:1] = [{"_target_": "Activationsd", "keys": "pred", "sigmoid": True}]
REGIONS["postprocessing"]["transforms"][2] = {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5}
DESCRIBED = {
    "channel_names": {"0": "MR"},
    "labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "active": 3},
    "regions_class_order": [1, 2, 3],
    "file_ending": ".nii.gz",
}


@pytest.fixture
def make_bundle(tmp_path: Path) -> Callable[..., Path]:
    """Writes a bundle with MONAI's own transforms and weights that were never trained."""

    def make(config: dict[str, Any] = CONFIG, outputs: Sequence[str] = ("background", "liver", "spleen")) -> Path:
        root = tmp_path / "monais"
        for name in ("configs", "models"):
            (root / name).mkdir(parents=True)
        (root / "configs" / "inference.json").write_text(json.dumps(config))
        formats = {
            "inputs": {"image": {"channel_def": {"0": "CT"}}},
            "outputs": {"pred": {"channel_def": dict(zip("012", outputs))}},
        }
        (root / "configs" / "metadata.json").write_text(json.dumps({"network_data_format": formats}))
        network = SCDUNETR(**{name: value for name, value in config["network_def"].items() if name != "_target_"})
        torch.save(network.state_dict(), root / "models" / "model.pt")
        return root

    return make


@pytest.fixture
def small_images(tmp_path: Path) -> Path:
    """One case that fits the window, on the bundle's spacing, but with its axes turned."""
    folder = tmp_path / "small"
    folder.mkdir()
    rng = np.random.default_rng(0)
    blocks = rng.integers(-150, 250, (6, 4, 8)).repeat(4, 0).repeat(4, 1).repeat(4, 2)[:23, :15, :31]
    image = sitk.GetImageFromArray((blocks + rng.integers(0, 20, blocks.shape)).astype(np.int16))
    image.SetSpacing((0.9, 1.1, 2.5))
    image.SetOrigin((-30.5, 12.25, 100.0))
    # x to the left, y up, z to the back
    image.SetDirection((1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0))
    sitk.WriteImage(image, str(folder / "case_0000.nii.gz"))
    return folder


def window_weights(shape: tuple[int, ...]) -> np.ndarray:
    """nnU-Net adds up windows in float16: in the corners of a window, where weights are small, digits are lost."""
    window = compute_gaussian(tuple(NETWORK["img_size"]), value_scaling_factor=10, device=torch.device("cpu"))
    return window[tuple(map(slice, shape))].numpy()


def in_ras(path: Path) -> np.ndarray:
    """Voxels along the patient's right, front and up."""
    return np.asarray(nibabel.as_closest_canonical(nibabel.load(path)).dataobj).astype(int)


def transforms_of(bundle: Path) -> Any:
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "inference.json"))
    return parser.get_parsed_content("preprocessing")


class TestThereAndBack:
    @pytest.mark.slow
    def test_same_model(self, make_model: Callable[..., Path], tmp_path: Path) -> None:
        model = make_model(folds=("0", "2"), mirror_axes=(0, 2))
        moved = bundle_to_nnunet(to_monai(model, tmp_path / "bundle"))
        assert (moved.name, moved.notes) == (model.name, [])
        back = moved.write(tmp_path / "back")
        assert json.loads((back / "dataset.json").read_text()) == json.loads((model / "dataset.json").read_text())
        # the plans are the same, but name the network
        plans = [json.loads((folder / "plans.json").read_text()) for folder in (model, back)]
        planned = plans[1]["configurations"]["3d_fullres"].pop("architecture")
        del plans[0]["configurations"]["3d_fullres"]["architecture"]
        assert plans[0] == plans[1]
        assert planned["network_class_name"].endswith("scd_unetr")
        assert (planned["arch_kwargs"]["hidden_size"], planned["arch_kwargs"]["keep_ratio"]) == (96, 0.25)
        for fold in ("0", "2"):
            files = [folder / f"fold_{fold}" / "checkpoint_final.pth" for folder in (model, back)]
            assert read_weights(files[0]).keys() == read_weights(files[1]).keys()
            assert all(
                torch.equal(value, read_weights(files[0])[name]) for name, value in read_weights(files[1]).items()
            )
            checkpoint = torch.load(files[1], weights_only=True)
            assert checkpoint["inference_allowed_mirroring_axes"] == (0, 2)
        # and nnU-Net takes it
        predictor = nnUNetPredictor(device=torch.device("cpu"))
        predictor.initialize_from_trained_model_folder(str(back), None, "checkpoint_final.pth")
        assert len(predictor.list_of_parameters) == 2

    def test_again_to_monai(self, make_model: Callable[..., Path], tmp_path: Path) -> None:
        bundle = to_monai(make_model(), tmp_path / "bundle")
        back = bundle_to_nnunet(bundle).write(tmp_path / "back")
        again = to_monai(back, tmp_path / "again")
        assert (again / "configs" / "inference.json").read_text() == (bundle / "configs" / "inference.json").read_text()

    def test_changed_bundle(self, make_model: Callable[..., Path], tmp_path: Path) -> None:
        bundle = to_monai(make_model(), tmp_path / "bundle")
        file = bundle / "configs" / "inference.json"
        config = json.loads(file.read_text())
        changed = deepcopy(config)
        changed["preprocessing"]["transforms"].append({"_target_": "Flipd", "keys": "image", "spatial_axis": 0})
        file.write_text(json.dumps(changed))
        with pytest.raises(ValueError, match="does more than nnU-Net: Flipd is not what it was written with"):
            bundle_to_nnunet(bundle)
        changed = deepcopy(config)
        changed["network_def"]["sampling"] = "topk"
        file.write_text(json.dumps(changed))
        with pytest.raises(ValueError, match=r"sampling is topk in the plans and soft_topk in nnUNetTrainerSCD_demo"):
            bundle_to_nnunet(bundle, trainer="nnUNetTrainerSCD_demo")
        moved = bundle_to_nnunet(bundle)
        assert moved.trainer_name == "nnUNetTrainerSCD"
        assert "the model names nnUNetTrainerSCD, which builds what the plans say, in place of nnUNet" in moved.notes[0]
        assert moved.plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["sampling"] == "topk"
        changed = deepcopy(config)
        changed["inferer"].update(step_size=0.75, mirror_axes=None)
        file.write_text(json.dumps(changed))
        moved = bundle_to_nnunet(bundle)
        assert moved.notes == ["the bundle's step_size is 0.75: predict with -step_size 0.75"]
        assert moved.mirror_axes is None


class TestMadeForMonai:
    def test_same_label_map(
        self,
        make_bundle: Callable[..., Path],
        predict_by_both: Callable[[Path, Path, Path], Path],
        small_images: Path,
        tmp_path: Path,
    ) -> None:
        bundle = make_bundle()
        moved = bundle_to_nnunet(bundle)
        assert moved.name == "nnUNetTrainerSCD__nnUNetPlansFromMONAI__3d_fullres"
        model = moved.write(tmp_path / "model")
        predict_by_both(model, bundle, small_images)
        by_nnunet = in_ras(tmp_path / "nnunet" / "case.nii.gz")
        by_monai = in_ras(bundle / "eval" / "case_0000.nii.gz")
        assert np.unique(by_nnunet).size == 3
        weight = window_weights(by_nnunet.shape)
        assert (weight > 0.01).mean() > 0.4
        np.testing.assert_array_equal(by_nnunet[weight > 0.01], by_monai[weight > 0.01])
        assert (by_nnunet == by_monai).mean() > 0.99

    def test_same_numbers_go_into_the_network(
        self, make_bundle: Callable[..., Path], small_images: Path, tmp_path: Path
    ) -> None:
        bundle = make_bundle()
        recipe = read_recipe(bundle_to_nnunet(bundle).write(tmp_path / "model"), "3d_fullres")
        file = str(small_images / "case_0000.nii.gz")
        by_nnunet, _ = recipe.preprocess(*recipe.read([file]))
        by_monai = transforms_of(bundle)({"image": file})["image"].numpy()
        np.testing.assert_array_equal(by_nnunet, by_monai)

    def test_plans(self, make_bundle: Callable[..., Path]) -> None:
        moved = bundle_to_nnunet(make_bundle())
        configuration = moved.plans["configurations"]["3d_fullres"]
        assert configuration["spacing"] == [0.9, 2.5, 1.1]
        assert configuration["patch_size"] == [32, 24, 16]
        assert moved.plans["transpose_forward"] == [2, 1, 0]
        assert moved.plans["foreground_intensity_properties_per_channel"]["0"] == {
            "mean": -90.0,
            "std": 270.0,
            "percentile_00_5": -90.0,
            "percentile_99_5": 180.0,
        }
        assert moved.dataset["labels"] == {"background": 0, "liver": 1, "spleen": 2}
        # norms stay as they are
        assert configuration["architecture"]["arch_kwargs"]["norm_name"] == "instance"
        assert "decoder.ups.0.block.conv_block.norm1.weight" not in moved.weights["0"]

    def test_regions_need_a_description(self, make_bundle: Callable[..., Path], tmp_path: Path) -> None:
        bundle = make_bundle(REGIONS, ["whole", "core", "active"])
        with pytest.raises(ValueError, match=r"predicts regions that overlap.*--dataset-json"):
            bundle_to_nnunet(bundle)
        file = tmp_path / "dataset.json"
        file.write_text(json.dumps(DESCRIBED))
        assert bundle_to_nnunet(bundle, dataset_json=file).dataset == DESCRIBED
        file.write_text(
            json.dumps({**DESCRIBED, "labels": {"background": 0, "whole": [1, 2]}, "regions_class_order": [1]})
        )
        with pytest.raises(ValueError, match="the network has 3 output channels where its labels make 1"):
            bundle_to_nnunet(bundle, dataset_json=file)
        file.write_text(json.dumps({**DESCRIBED, "labels": {"whole": [1, 2]}}))
        with pytest.raises(ValueError, match=r"nnU-Net does not take the labels .*Background label not declared"):
            bundle_to_nnunet(bundle, dataset_json=file)
        file.write_text(json.dumps({"channel_names": {}, "labels": {"background": 0}, "file_ending": ".mha"}))
        with pytest.raises(ValueError, match=r"the bundle predicts regions, and .*dataset.json does not"):
            bundle_to_nnunet(bundle, dataset_json=file)
        for incomplete, reason in (
            ({"labels": {}, "regions_class_order": [1]}, "dataset.json has no channel_names, file_ending"),
            ([], "dataset.json must be an object"),
        ):
            file.write_text(json.dumps(incomplete))
            with pytest.raises(ValueError, match=reason):
                bundle_to_nnunet(bundle, dataset_json=file)

    @pytest.mark.slow
    def test_regions_are_painted(
        self,
        make_bundle: Callable[..., Path],
        predict_by_both: Callable[[Path, Path, Path], Path],
        small_images: Path,
        tmp_path: Path,
    ) -> None:
        bundle = make_bundle(REGIONS, ["core", "active", "whole"])
        (tmp_path / "dataset.json").write_text(json.dumps(DESCRIBED))
        model = bundle_to_nnunet(bundle, dataset_json=tmp_path / "dataset.json").write(tmp_path / "model")
        predict_by_both(model, bundle, small_images)
        by_nnunet = in_ras(tmp_path / "nnunet" / "case.nii.gz")
        core, active, whole = np.moveaxis(in_ras(bundle / "eval" / "case_0000.nii.gz"), -1, 0) > 0
        by_monai = np.select([active, core, whole], [3, 2, 1])
        assert np.unique(by_nnunet).size > 2
        trusted = window_weights(by_nnunet.shape) > 0.01
        np.testing.assert_array_equal(by_nnunet[trusted], by_monai[trusted])

    @pytest.mark.parametrize(
        ("part", "value", "message"),
        [
            (
                "network_def",
                {"_target_": "monai.networks.nets.UNETR", "in_channels": 1, "out_channels": 2, "img_size": 32},
                r"must be a scd_plugin.SCDUNETR or scd_plugin.SCDPrimus, the networks that are moved; it is a UNETR",
            ),
            ("network_def", {**CONFIG["network_def"], "feature_size": 12}, r"weights in .*model.pt do not fit"),
            ("inferer", {**CONFIG["inferer"], "overlap": [0.5, 0.5, 0.25]}, r"must be the same for all axes.*0.25\)"),
            ("inferer", {"_target_": "SimpleInferer"}, r"must be MONAI's SlidingWindowInferer.*got SimpleInferer"),
            (
                "preprocessing",
                {"_target_": "Compose", "transforms": [{"_target_": "Rotate90d", "keys": "image"}]},
                "preprocessing transform Rotate90d can't be expressed",
            ),
            (
                "postprocessing",
                {"_target_": "FillHolesd", "keys": "pred"},
                "postprocessing transform FillHolesd can't be moved",
            ),
        ],
        ids=["foreign network", "other weights", "overlaps", "no window", "preprocessing", "postprocessing"],
    )
    def test_refused(self, make_bundle: Callable[..., Path], part: str, value: Any, message: str) -> None:
        bundle = make_bundle()
        (bundle / "configs" / "inference.json").write_text(json.dumps({**CONFIG, part: value}))
        with pytest.raises(ValueError, match=message):
            bundle_to_nnunet(bundle)

    def test_keep_ratio_and_overlap_of_the_config(self, make_bundle: Callable[..., Path]) -> None:
        window = {**CONFIG["inferer"], "overlap": [0.5, 0.5, 0.5]}
        moved = bundle_to_nnunet(make_bundle({**CONFIG, "keep_ratio": 0.125, "inferer": window}))
        architecture = moved.plans["configurations"]["3d_fullres"]["architecture"]
        assert architecture["arch_kwargs"]["keep_ratio"] == 0.125

    def test_part_that_is_not_installed(self, make_bundle: Callable[..., Path]) -> None:
        bundle = make_bundle({**CONFIG, "inferer": {"_target_": "not_installed.Inferer"}})
        with pytest.raises(ValueError, match=r"inferer in .*inference.json can't be built: Cannot locate class"):
            bundle_to_nnunet(bundle)

    def test_incomplete(self, make_bundle: Callable[..., Path], tmp_path: Path) -> None:
        bundle = make_bundle()
        (bundle / "models" / "model.pt").unlink()
        with pytest.raises(ValueError, match=r"model.pt is missing, so there are no weights"):
            bundle_to_nnunet(bundle)
        (bundle / "configs" / "inference.json").write_text(json.dumps({"network_def": {}, "inferer": {}}))
        with pytest.raises(ValueError, match=r"inference.json has no preprocessing, postprocessing"):
            bundle_to_nnunet(bundle)
        with pytest.raises(ValueError, match=r"is no MONAI bundle: it has no configs/inference.json"):
            bundle_to_nnunet(tmp_path)
