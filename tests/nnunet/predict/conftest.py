"""Models as nnU-Net's training leaves them, with weights drawn at random, and images to predict."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from scd_plugin.nnunet.model.recipe import NnunetRecipe
from scd_plugin.nnunet.model.trained_network import find_any_trainer
from scd_plugin.nnunet.predict import threads

RESAMPLE = "resample_data_or_seg_to_shape"


def unet(dims: int) -> dict[str, Any]:
    """nnU-Net's own network, as small as it gets; its strides fit SCD too."""
    return {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": 3,
            "features_per_stage": [4, 8, 8],
            "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
            "kernel_sizes": [[3] * dims] * 3,
            "strides": [[1] * dims, [2] * dims, [2] * dims],
            "n_conv_per_stage": [1, 1, 1],
            "n_conv_per_stage_decoder": [1, 1],
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def resampling(order: int, *, is_seg: bool = False) -> dict[str, Any]:
    return {"is_seg": is_seg, "order": order, "order_z": 0, "force_separate_z": None}


PLANS: dict[str, Any] = {
    "dataset_name": "Dataset999_Test",
    "plans_name": "nnUNetPlans",
    "image_reader_writer": "SimpleITKIO",
    "transpose_forward": [1, 0, 2],
    "transpose_backward": [1, 0, 2],
    "label_manager": "LabelManager",
    "foreground_intensity_properties_per_channel": {
        "0": {"mean": 40.0, "std": 60.0, "percentile_00_5": -80.0, "percentile_99_5": 160.0}
    },
    "configurations": {
        "3d_fullres": {
            "data_identifier": "nnUNetPlans_3d_fullres",
            "preprocessor_name": "DefaultPreprocessor",
            "batch_size": 2,
            "patch_size": [16, 16, 16],
            "spacing": [1.3, 2.4, 1.0],
            "normalization_schemes": ["CTNormalization"],
            "use_mask_for_norm": [False],
            "resampling_fn_data": RESAMPLE,
            "resampling_fn_data_kwargs": resampling(3),
            "resampling_fn_seg": RESAMPLE,
            "resampling_fn_seg_kwargs": resampling(1, is_seg=True),
            "resampling_fn_probabilities": RESAMPLE,
            "resampling_fn_probabilities_kwargs": resampling(1),
            "batch_dice": False,
            "architecture": unet(3),
        },
        "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
        "2d": {"inherits_from": "3d_fullres", "patch_size": [16, 16], "spacing": [2.4, 1.0], "architecture": unet(2)},
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
def recipe() -> NnunetRecipe:
    return NnunetRecipe(deepcopy(PLANS), deepcopy(DATASET), "3d_fullres")


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """As many as `nnUNetv2_predict` sets."""
    before = torch.get_num_threads()
    torch.set_num_threads(multiprocessing.cpu_count())
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _no_idle_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is said of threads, however many cores there are and whatever nnU-Net's variables say."""
    monkeypatch.setattr(threads, "usable_cores", lambda: 1)


@pytest.fixture
def make_model(tmp_path: Path) -> Callable[..., Path]:
    """Writes a model folder."""

    def make(
        plans: dict[str, Any] = PLANS,
        dataset: dict[str, Any] = DATASET,
        *,
        configuration: str = "3d_fullres",
        trainer: str = "nnUNetTrainer",
        folds: Sequence[str] = ("0",),
        mirror_axes: Sequence[int] | None = (1,),
    ) -> Path:
        folder = tmp_path / f"{trainer}__nnUNetPlans__{configuration}"
        folder.mkdir()
        (folder / "plans.json").write_text(json.dumps(plans))
        (folder / "dataset.json").write_text(json.dumps(dataset))
        recipe = NnunetRecipe(deepcopy(plans), dataset, configuration)
        build = find_any_trainer(trainer).build_network_architecture
        for seed, fold in enumerate(folds):
            torch.manual_seed(seed)
            heads = recipe.labels.num_segmentation_heads
            network = build(
                recipe.plans, recipe.configuration, recipe.num_channels, heads, enable_deep_supervision=False
            )
            (folder / f"fold_{fold}").mkdir()
            checkpoint = {
                "network_weights": network.state_dict(),
                "trainer_name": trainer,
                "init_args": {"configuration": configuration, "plans": plans, "fold": fold, "dataset_json": dataset},
                "inference_allowed_mirroring_axes": mirror_axes,
                "logging": {"train_losses": [np.float32(0.5)]},
            }
            torch.save(checkpoint, folder / f"fold_{fold}" / "checkpoint_final.pth")
        return folder

    return make


@pytest.fixture
def make_images(tmp_path: Path) -> Callable[..., Path]:
    """Writes cases larger than a window on each axis, turned and shifted in space, with borders of 0."""

    def make(names: Sequence[str] = ("a", "b"), *, num_channels: int = 1, ending: str = ".nii.gz") -> Path:
        rng = np.random.default_rng(0)
        for name in names:
            for channel in range(num_channels):
                voxels = np.zeros((14, 23, 33), dtype=np.int16)
                # a few voxels wide, so that interpolation has something to follow
                blocks = rng.integers(-100, 200, (3, 6, 8)).repeat(4, 0).repeat(4, 1).repeat(4, 2)[:, :21]
                voxels[2:, 2:, :32] = blocks + rng.integers(0, 20, blocks.shape)
                write_image(tmp_path / "images" / f"{name}_{channel:04d}{ending}", voxels)
        return tmp_path / "images"

    return make


def write_image(path: Path, voxels: np.ndarray) -> Path:
    path.parent.mkdir(exist_ok=True)
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((0.9, 1.1, 2.5))
    image.SetOrigin((-30.5, 12.25, 100.0))
    image.SetDirection((-1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0))
    sitk.WriteImage(image, str(path))
    return path


@pytest.fixture
def write() -> Callable[[Path, np.ndarray], Path]:
    """Writes one image with the geometry of `make_images`."""
    return write_image


@pytest.fixture
def by_nnunet(tmp_path: Path) -> Callable[..., Path]:
    """Predicts with nnU-Net's predictor, as `nnUNetv2_predict -device cpu` does."""

    def predict(
        model: Path,
        images: Path,
        *,
        folds: Sequence[str] = ("0",),
        previous: Path | None = None,
        save_probabilities: bool = False,
        **options: Any,
    ) -> Path:
        predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False, **options)
        predictor.initialize_from_trained_model_folder(str(model), folds, "checkpoint_final.pth")
        output = tmp_path / "by_nnunet"
        output.mkdir()
        predictor.predict_from_files_sequential(
            str(images), str(output), save_probabilities, True, None if previous is None else str(previous)
        )
        return output

    return predict
