"""Contents of the files of a bundle that does what nnU-Net does."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from scd_plugin.bridge.movable_network import MovableNetwork
from scd_plugin.nnunet.model.recipe import NnunetRecipe
from scd_plugin.nnunet.model.trained_model import ModelFolder

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


def inference_config(network: MovableNetwork, model: ModelFolder) -> dict[str, Any]:
    """Content of `configs/inference.json`; plans lie in `configs/nnunet`, weights as `weights_file` says."""
    reading = [
        _part(_BRIDGE + name, keys="image", recipe="@recipe") for name in ("NnunetLoadImaged", "NnunetPreprocessd")
    ]
    writing = [
        _part(_BRIDGE + "NnunetRestored", keys="pred", recipe="@recipe"),
        _part(_BRIDGE + "NnunetSaveImaged", keys="pred", recipe="@recipe", output_dir="@output_dir"),
    ]
    more = [f"$@bundle_root + '/models/{weights_file(n, fold)}'" for n, fold in enumerate(model.folds) if n > 0]
    trusted = {"trust": True} if model.recipe.trust else {}
    return {
        # looks at the command line, and shows errors as sentences
        "imports": ["$import scd_plugin.monai as scd"],
        "bundle_root": ".",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "dataset_dir": "$@bundle_root + '/images'",
        "output_dir": "$@bundle_root + '/eval'",
        "recipe": _part(
            _BRIDGE + "read_recipe",
            folder="$@bundle_root + '/configs/nnunet'",
            configuration=model.configuration,
            **trusted,
        ),
        "datalist": _part(
            _BRIDGE + "list_cases",
            folder="@dataset_dir",
            file_ending="$@recipe.file_ending",
            num_channels="$@recipe.num_channels",
        ),
        "network_def": _part(f"scd_plugin.{network.kind}", **network.arguments),
        "network": "$@network_def.to(@device)",
        "preprocessing": _part("Compose", transforms=reading),
        "dataset": _part("Dataset", data="@datalist", transform="@preprocessing"),
        "dataloader": _part("DataLoader", dataset="@dataset", batch_size=1, shuffle=False, num_workers=0),
        "inferer": _part(
            _BRIDGE + "NnunetInferer",
            recipe="@recipe",
            mirror_axes=None if model.mirror_axes is None else list(model.mirror_axes),
            step_size=0.5,
            more_weights=more,
        ),
        "postprocessing": _part("Compose", transforms=writing),
        "handlers": [
            _part(
                "CheckpointLoader",
                load_path="$@bundle_root + '/models/model.pt'",
                load_dict={"model": "@network"},
                map_location="@device",
            ),
            _part("StatsHandler", iteration_log=True, output_transform="$lambda output: None"),
        ],
        "evaluator": _part(
            "SupervisedEvaluator",
            device="@device",
            val_data_loader="@dataloader",
            network="@network",
            inferer="@inferer",
            postprocessing="@postprocessing",
            val_handlers="@handlers",
        ),
        "run": ["$scd.need_weights(@handlers)", "$@evaluator.run()"],
    }


def _part(target: str, **arguments: Any) -> dict[str, Any]:
    """An object of a config: what is called, and its arguments."""
    return {"_target_": target, **arguments}


def label_channels(labels: Mapping[str, Any]) -> dict[str, str]:
    """Number of each output channel, as text, to the name of its class or region.

    nnU-Net's dataset.json has labels by name: values, or lists of values where the model predicts regions, which have a
    channel for each but background, in their order.
    """
    regions = any(isinstance(value, (list, tuple)) and len(value) > 1 for value in labels.values())
    predicted = {name: value for name, value in labels.items() if name != "ignore"}
    if regions:
        names = [name for name, value in predicted.items() if value not in (0, [0], (0,))]
    else:
        values = {name: value if isinstance(value, int) else int(value[0]) for name, value in predicted.items()}
        names = sorted(values, key=lambda name: values[name])
    return {str(channel): name for channel, name in enumerate(names)}


def metadata(network: MovableNetwork, recipe: NnunetRecipe, origin: str) -> dict[str, Any]:
    """Content of `configs/metadata.json`; `origin` is one sentence that says which model it was."""
    name, labels, channels = recipe.plans.dataset_name, recipe.dataset["labels"], recipe.channel_names
    outputs = label_channels(labels)
    in_channels, *size = network.network.image_shape
    out_channels = network.network.out_channels
    tensor = {"type": "image", "spatial_shape": size, "dtype": "float32", "value_range": [], "is_patch_data": True}
    image = {**tensor, "format": "magnitude", "num_channels": in_channels, "channel_def": channels}
    image["modality"] = ", ".join(channels.values())
    pred = {**tensor, "format": "segmentation", "num_channels": out_channels, "channel_def": outputs}
    pred["activation"] = "sigmoid" if recipe.labels.has_regions else "softmax"
    return {
        "schema": "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/"
        "meta_schema_20240725.json",
        "version": "0.1.0",
        "changelog": {"0.1.0": origin},
        "monai_version": version("monai"),
        "pytorch_version": version("torch"),
        "numpy_version": version("numpy"),
        "required_packages_version": {package: version(package) for package in ("scd-plugin", "nnunetv2")},
        "supported_apps": {},
        "name": f"{network.kind}, {name}",
        "task": f"Segmentation, {name}",
        "description": f"{network.kind} with nnU-Net's preprocessing and prediction. {origin}",
        "authors": "whoever trained the model",
        "copyright": "see LICENSE",
        "data_source": name,
        "data_type": "nnU-Net data set",
        "image_classes": _in_words(channels),
        "label_classes": _in_words(labels),
        "pred_classes": _in_words(outputs),
        "intended_use": "research",
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": pred}},
    }


def _in_words(names: Mapping[Any, Any]) -> str:
    return ", ".join(f"{key}: {value}" for key, value in names.items())


def readme(network: MovableNetwork, recipe: NnunetRecipe, origin: str) -> str:
    """Text of `docs/README.md`; arguments as in `metadata`."""
    names = [(f"NAME_{int(number):04d}{recipe.file_ending}", name) for number, name in recipe.channel_names.items()]
    files = ", ".join(f"`{file}` ({name})" for file, name in names)
    return f"""\
# {network.kind}, {recipe.plans.dataset_name}

{origin}

It needs `scd-plugin`, which brings nnU-Net: reading, cropping, normalisation, resampling, sliding window, mirroring and
the way back to the image's grid are nnU-Net's own functions, with the plans in `configs/nnunet`.

```bash
python -m monai.bundle run --config_file configs/inference.json --bundle_root . --dataset_dir IMAGES
```

- `IMAGES` holds {files}.
- Label maps go to `eval/`, or to `--output_dir`: {", ".join(label_channels(recipe.dataset["labels"]).values())}.
- `--inferer#mirror_axes '[]'` leaves out mirroring, which is several times faster.

Back to nnU-Net: `scd bridge to-nnunet . MODEL_FOLDER`.
"""
