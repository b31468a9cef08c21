"""Models as nnU-Net's training leaves them, too small to be good, and images to predict."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.bundle import create_workflow
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from scd_plugin.nnunet.trainers import nnUNetTrainerSCD_demo

RESAMPLE = "resample_data_or_seg_to_shape"

PLANS: dict[str, Any] = {
    "dataset_name": "Dataset999_Test",
    "plans_name": "nnUNetPlans",
    "image_reader_writer": "SimpleITKIO",
    "transpose_forward": [0, 1, 2],
    "transpose_backward": [0, 1, 2],
    "label_manager": "LabelManager",
    "foreground_intensity_properties_per_channel": {
        "0": {"mean": 40.0, "std": 60.0, "percentile_00_5": -80.0, "percentile_99_5": 160.0}
    },
    "configurations": {
        "3d_fullres": {
            "data_identifier": "nnUNetPlans_3d_fullres",
            "preprocessor_name": "DefaultPreprocessor",
            "batch_size": 2,
            "patch_size": [32, 32, 32],
            "median_image_size_in_voxels": [32, 32, 32],
            "spacing": [2.4, 1.0, 1.0],
            "normalization_schemes": ["CTNormalization"],
            "use_mask_for_norm": [False],
            "resampling_fn_data": RESAMPLE,
            "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
            "resampling_fn_seg": RESAMPLE,
            "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None},
            "resampling_fn_probabilities": RESAMPLE,
            "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None},
            "batch_dice": False,
            "architecture": {
                "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
                "arch_kwargs": {"strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2], [2, 2, 2]]},
                "_kw_requires_import": [],
            },
        },
        "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
        "2d": {
            "inherits_from": "3d_fullres",
            "patch_size": [32, 32],
            "spacing": [1.0, 1.0],
            "architecture": {
                "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
                "arch_kwargs": {"strides": [[1, 1], [2, 2], [2, 2], [2, 2]]},
                "_kw_requires_import": [],
            },
        },
    },
}
DATASET: dict[str, Any] = {
    "channel_names": {"0": "CT"},
    "labels": {"background": 0, "liver": 1, "spleen": 2},
    "numTraining": 1,
    "file_ending": ".nii.gz",
}


@pytest.fixture
def plans() -> dict[str, Any]:
    return deepcopy(PLANS)


@pytest.fixture
def dataset() -> dict[str, Any]:
    return deepcopy(DATASET)


@pytest.fixture
def make_model(tmp_path: Path) -> Callable[..., Path]:
    """Writes a model folder with weights that were never trained."""

    def make(
        plans: dict[str, Any] = PLANS,
        dataset: dict[str, Any] = DATASET,
        *,
        configuration: str = "3d_fullres",
        folds: Sequence[str] = ("0",),
        mirror_axes: Sequence[int] | None = (1,),
        trainer_name: str = "nnUNetTrainerSCD_demo",
    ) -> Path:
        folder = tmp_path / f"{trainer_name}__nnUNetPlans__{configuration}"
        folder.mkdir()
        (folder / "plans.json").write_text(json.dumps(plans))
        (folder / "dataset.json").write_text(json.dumps(dataset))
        manager = PlansManager(deepcopy(plans))
        heads = manager.get_label_manager(dataset).num_segmentation_heads
        for seed, fold in enumerate(folds):
            torch.manual_seed(seed)
            network = nnUNetTrainerSCD_demo.build_network_architecture(
                manager, manager.get_configuration(configuration), len(dataset["channel_names"]), heads, False
            )
            (folder / f"fold_{fold}").mkdir()
            checkpoint = {
                "network_weights": network.state_dict(),
                "trainer_name": trainer_name,
                "init_args": {"configuration": configuration, "plans": plans, "fold": fold, "dataset_json": dataset},
                "inference_allowed_mirroring_axes": mirror_axes,
                "logging": {"train_losses": [np.float32(0.5)]},
            }
            torch.save(checkpoint, folder / f"fold_{fold}" / "checkpoint_final.pth")
        return folder

    return make


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with one case of two channels, turned and shifted in space, with borders of 0."""
    folder = tmp_path / "images with äöü"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for channel in range(2):
        voxels = np.zeros((18, 36, 41), dtype=np.int16)
        # a few voxels wide, so that interpolation has something to follow
        blocks = rng.integers(-100, 200, (4, 9, 11)).repeat(4, 0).repeat(4, 1).repeat(4, 2)[:, :33, :40]
        voxels[2:, 3:, :40] = blocks + rng.integers(0, 20, blocks.shape)
        image = sitk.GetImageFromArray(voxels)
        image.SetSpacing((0.9, 1.1, 2.5))
        image.SetOrigin((-30.5, 12.25, 100.0))
        image.SetDirection((-1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0))
        sitk.WriteImage(image, str(folder / f"case_{channel:04d}.nii.gz"))
    return folder


@pytest.fixture
def predict_by_both(tmp_path: Path) -> Callable[[Path, Path, Path], Path]:
    """Predicts images with a model folder, into the folder that it returns, and with a bundle, into its eval."""

    def predict(model: Path, bundle: Path, images: Path) -> Path:
        predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(str(model), None, "checkpoint_final.pth")
        (tmp_path / "nnunet").mkdir()
        predictor.predict_from_files_sequential(str(images), str(tmp_path / "nnunet"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            create_workflow(
                config_file=str(bundle / "configs" / "inference.json"),
                workflow_type="infer",
                bundle_root=str(bundle),
                dataset_dir=str(images),
            ).run()
        return tmp_path / "nnunet"

    return predict
