"""Contents of the files of a bundle that does what nnU-Net does. Plain values in, plain values out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scd_plugin.bridge.movable_network import MovableNetwork

__all__ = ["LICENSE", "LOGGING", "inference_config", "label_channels", "metadata", "readme", "weights_file"]

LICENSE = """\
The files in configs/ and docs/ were written by scd-plugin and are available under the Apache License, Version 2.0
(https://www.apache.org/licenses/LICENSE-2.0).

The weights in models/ and the description of the data set in configs/nnunet/ belong to whoever trained the model, and
may be bound by the licence of the training data. State their licence here before you pass this bundle on.
"""

LOGGING = """\
[loggers]
keys=root

[handlers]
keys=stdout

[formatters]
keys=line

[logger_root]
level=INFO
handlers=stdout

[handler_stdout]
class=StreamHandler
level=INFO
formatter=line
args=(sys.stdout,)

[formatter_line]
format=%(asctime)s %(levelname)s %(name)s: %(message)s
"""

_BRIDGE = "scd_plugin.bridge."


def weights_file(number: int, fold: str) -> str:
    """File in `models/` of the n-th fold, from 0: the first is the bundle's `model.pt`."""
    return "model.pt" if number == 0 else f"model_fold_{fold}.pt"


def inference_config(
    network: MovableNetwork, *, configuration: str, folds: Sequence[str], mirror_axes: Sequence[int] | None
) -> dict[str, Any]:
    """`configs/inference.json`.

    Args:
        network: of the model.
        configuration: of the plans in `configs/nnunet`.
        folds: their names; weights lie as `weights_file` says.
        mirror_axes: for nnU-Net's mirroring.
    """
    more = [f"$@bundle_root + '/models/{weights_file(number, fold)}'" for number, fold in enumerate(folds) if number]
    return {
        "bundle_root": ".",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "dataset_dir": "$@bundle_root + '/images'",
        "output_dir": "$@bundle_root + '/eval'",
        "recipe": {
            "_target_": _BRIDGE + "read_recipe",
            "folder": "$@bundle_root + '/configs/nnunet'",
            "configuration": configuration,
        },
        "datalist": {
            "_target_": _BRIDGE + "list_cases",
            "folder": "@dataset_dir",
            "file_ending": "$@recipe.file_ending",
            "num_channels": "$@recipe.num_channels",
        },
        "network_def": {"_target_": f"scd_plugin.{network.kind}", **network.arguments},
        "network": "$@network_def.to(@device)",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": _BRIDGE + "NnunetLoadImaged", "keys": "image", "recipe": "@recipe"},
                {"_target_": _BRIDGE + "NnunetPreprocessd", "keys": "image", "recipe": "@recipe"},
            ],
        },
        "dataset": {"_target_": "Dataset", "data": "@datalist", "transform": "@preprocessing"},
        "dataloader": {
            "_target_": "DataLoader",
            "dataset": "@dataset",
            "batch_size": 1,
            "shuffle": False,
            "num_workers": 0,
        },
        "inferer": {
            "_target_": _BRIDGE + "NnunetInferer",
            "recipe": "@recipe",
            "mirror_axes": None if mirror_axes is None else list(mirror_axes),
            "step_size": 0.5,
            "more_weights": more,
        },
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": _BRIDGE + "NnunetRestored", "keys": "pred", "recipe": "@recipe"},
                {
                    "_target_": _BRIDGE + "NnunetSaveImaged",
                    "keys": "pred",
                    "recipe": "@recipe",
                    "output_dir": "@output_dir",
                },
            ],
        },
        "handlers": [
            {
                "_target_": "CheckpointLoader",
                "load_path": "$@bundle_root + '/models/model.pt'",
                "load_dict": {"model": "@network"},
                "map_location": "@device",
            },
            {"_target_": "StatsHandler", "iteration_log": True, "output_transform": "$lambda output: None"},
        ],
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "val_handlers": "@handlers",
        },
        "run": ["$@evaluator.run()"],
    }


def label_channels(labels: Mapping[str, Any]) -> dict[str, str]:
    """What each output channel means, by the labels of nnU-Net's dataset.json.

    Args:
        labels: names to values; to lists of values where the model predicts regions.

    Returns:
        Channel number, as text, to name. Regions have a channel for each but background, in their order.
    """
    regions = any(isinstance(value, (list, tuple)) and len(value) > 1 for value in labels.values())
    predicted = {name: value for name, value in labels.items() if name != "ignore"}
    if regions:
        names = [name for name, value in predicted.items() if value not in (0, [0], (0,))]
    else:
        values = {name: value if isinstance(value, int) else int(value[0]) for name, value in predicted.items()}
        names = sorted(values, key=lambda name: values[name])
    return {str(channel): name for channel, name in enumerate(names)}


def metadata(
    network: MovableNetwork,
    *,
    channel_names: Mapping[str, str],
    labels: Mapping[str, Any],
    dataset_name: str,
    origin: str,
    versions: Mapping[str, str],
) -> dict[str, Any]:
    """`configs/metadata.json`.

    Args:
        network: as for `inference_config`.
        channel_names: of nnU-Net's dataset.json.
        labels: too.
        dataset_name: of the plans.
        origin: one sentence: which model this was.
        versions: of monai, torch, numpy, nnunetv2 and scd-plugin.
    """
    outputs = label_channels(labels)
    regions = network.network.out_channels != 1 and "background" not in outputs.values()
    return {
        "schema": "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/"
        "meta_schema_20240725.json",
        "version": "0.1.0",
        "changelog": {"0.1.0": origin},
        "monai_version": versions["monai"],
        "pytorch_version": versions["torch"],
        "numpy_version": versions["numpy"],
        "required_packages_version": {name: versions[name] for name in ("scd-plugin", "nnunetv2")},
        "supported_apps": {},
        "name": f"{network.kind}, {dataset_name}",
        "task": f"Segmentation, {dataset_name}",
        "description": f"{network.kind} with nnU-Net's preprocessing and prediction. {origin}",
        "authors": "whoever trained the model",
        "copyright": "see LICENSE",
        "data_source": dataset_name,
        "data_type": "nnU-Net data set",
        "image_classes": ", ".join(f"{channel}: {name}" for channel, name in channel_names.items()),
        "label_classes": ", ".join(f"{name}: {value}" for name, value in labels.items()),
        "pred_classes": ", ".join(f"{channel}: {name}" for channel, name in outputs.items()),
        "intended_use": "research",
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image",
                    "format": "magnitude",
                    "modality": ", ".join(channel_names.values()),
                    "num_channels": network.network.image_shape[0],
                    "spatial_shape": network.network.image_shape[1:],
                    "dtype": "float32",
                    "value_range": [],
                    "is_patch_data": True,
                    "channel_def": {str(channel): name for channel, name in channel_names.items()},
                }
            },
            "outputs": {
                "pred": {
                    "type": "image",
                    "format": "segmentation",
                    "num_channels": network.network.out_channels,
                    "spatial_shape": network.network.image_shape[1:],
                    "dtype": "float32",
                    "value_range": [],
                    "is_patch_data": True,
                    "channel_def": outputs,
                    "activation": "sigmoid" if regions else "softmax",
                }
            },
        },
    }


def readme(*, title: str, origin: str, file_ending: str, channel_names: Mapping[str, str], labels: str) -> str:
    """`docs/README.md`."""
    files = ", ".join(f"`NAME_{int(channel):04d}{file_ending}` ({name})" for channel, name in channel_names.items())
    return f"""\
# {title}

{origin}

It needs `scd-plugin`, which brings nnU-Net: reading, cropping, normalisation, resampling, sliding window, mirroring and
the way back to the image's grid are nnU-Net's own functions, with the plans in `configs/nnunet`.

```bash
python -m monai.bundle run --config_file configs/inference.json --bundle_root . --dataset_dir IMAGES
```

- `IMAGES` holds {files}.
- Label maps go to `eval/`, or to `--output_dir`: {labels}.
- `--inferer#mirror_axes None` leaves out mirroring, which is several times faster.

Back to nnU-Net: `scd bridge to-nnunet . MODEL_FOLDER`.
"""
