"""nnU-Net's plans and data set description for a network and its preprocessing. Plain values only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scd_plugin.bridge.from_monai.preprocessing import Preprocessing
from scd_plugin.bridge.movable_network import MovableNetwork
from scd_plugin.nnunet.planning.planned_network import architecture_of

__all__ = ["CONFIGURATION", "build_dataset", "build_plans", "build_region_dataset"]

CONFIGURATION = "3d_fullres"
PLANS_NAME = "nnUNetPlansFromMONAI"
# arrays of nnU-Net's readers are z, y, x, those of MONAI x, y, z
_TO_XYZ = [2, 1, 0]


def build_plans(network: MovableNetwork, preprocessing: Preprocessing, *, name: str) -> dict[str, Any]:
    """Plans with one configuration, for the bundle's network and what has to be done before it.

    The network was trained on arrays whose axes are x, y, z. So plans turn nnU-Net's arrays round, and their crops and
    spacings count x, y, z. `name` is that of the data set.
    """
    crop = network.network.image_shape[1:]
    resampling: dict[str, Any] = {}
    for what, order, is_seg in (("data", preprocessing.order, False), ("seg", 1, True), ("probabilities", 1, False)):
        # MONAI treats no axis apart
        by = {"is_seg": is_seg, "order": order, "order_z": 0, "force_separate_z": False}
        resampled = preprocessing.spacing is not None
        resampling[f"resampling_fn_{what}"] = "resample_data_or_seg_to_shape" if resampled else "no_resampling_hack"
        resampling[f"resampling_fn_{what}_kwargs"] = by if resampled else {}
    configuration = {
        "data_identifier": f"{PLANS_NAME}_{CONFIGURATION}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": crop,
        "median_image_size_in_voxels": crop,
        "spacing": preprocessing.spacing or [1.0] * len(crop),
        "normalization_schemes": [one.scheme for one in preprocessing.intensity],
        "use_mask_for_norm": [one.use_mask for one in preprocessing.intensity],
        **resampling,
        "batch_dice": False,
        "architecture": architecture_of(network.kind, network.arguments),
    }
    return {
        "dataset_name": name,
        "plans_name": PLANS_NAME,
        "image_reader_writer": "NibabelIOWithReorient" if preprocessing.to_ras else "SimpleITKIO",
        "transpose_forward": _TO_XYZ,
        "transpose_backward": _TO_XYZ,
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            str(channel): {"mean": one.mean, "std": one.std, "percentile_00_5": one.low, "percentile_99_5": one.high}
            for channel, one in enumerate(preprocessing.intensity)
        },
        "configurations": {CONFIGURATION: configuration},
    }


def build_dataset(channel_names: Mapping[str, str], output_names: Mapping[str, str]) -> dict[str, Any]:
    """`dataset.json` for labels that exclude each other; names by number, class 0 is background.

    Raises:
        ValueError: if class numbers are not 0, 1, 2, ... or two classes have one name.
    """
    classes = sorted(output_names, key=int)
    if [int(number) for number in classes] != list(range(len(classes))):
        msg = f"classes in metadata.json (outputs, pred, channel_def) must be 0, 1, 2, ...; got {', '.join(classes)}"
        raise ValueError(msg)
    names = ["background", *(output_names[number] for number in classes[1:])]
    if len(set(names)) < len(names):
        msg = f"classes in metadata.json (outputs, pred, channel_def) must have names of their own; got {names}"
        raise ValueError(msg)
    return {
        "channel_names": dict(channel_names),
        "labels": {name: number for number, name in enumerate(names)},
        "numTraining": 0,
        "file_ending": ".nii.gz",
    }


def build_region_dataset(channel_names: Mapping[str, str], described: Mapping[str, Any]) -> dict[str, Any]:
    """`dataset.json` for regions that overlap, `described` by `dataset` in a trained bundle's metadata.

    That holds `labels` (region to its label values, in the order of the channels) and `regions_order`.
    """
    return {
        "channel_names": dict(channel_names),
        "labels": {"background": 0, **described["labels"]},
        "regions_class_order": list(described["regions_order"]),
        "numTraining": 0,
        "file_ending": ".nii.gz",
    }
