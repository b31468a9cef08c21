"""The demo's picture: image, truth, prediction and keep-map side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from scd_plugin.measure.keep_map import keep_map

__all__ = ["Views", "draw", "predict_views", "typical_label"]


@dataclass(frozen=True)
class Views:
    """One case in the network's own space: preprocessed, cropped and resampled by nnU-Net. All (D, H, W)."""

    image: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray
    keep: np.ndarray
    num_stages: int


def predict_views(model_folder: Path, images: list[Path], labels: Path, *, device: str) -> Views:
    """Preprocess, predict and map one case, one image a channel, with nnU-Net's own predictor.

    Fold 0 of the model folder, `TRAINER__PLANS__CONFIGURATION`, must be trained.
    """
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(device=torch.device(device), use_mirroring=True, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model_folder), use_folds=(0,))
    configuration = predictor.configuration_manager
    data, truth, _ = configuration.preprocessor_class(verbose=False).run_case(
        [str(image) for image in images], str(labels), predictor.plans_manager, configuration, predictor.dataset_json
    )
    image = torch.from_numpy(np.asarray(data))
    logits = predictor.predict_logits_from_preprocessed_data(image)
    network = predictor.network.to(device).eval()
    flat = len(configuration.patch_size) == 2
    slices = list(image.unbind(1)) if flat else [image]
    maps = [keep_map(network, part.to(device), roi_size=configuration.patch_size).cpu() for part in slices]
    prediction = predictor.label_manager.convert_logits_to_segmentation(logits)
    return Views(
        image=image[0].numpy(),
        truth=np.asarray(truth)[0],
        prediction=np.asarray(prediction),
        keep=(torch.stack(maps) if flat else maps[0]).numpy(),
        num_stages=len(network.pruning_stages()),
    )


def typical_label(summary: Mapping[str, Any]) -> Path:
    """Return the label map of the case with the middle mean Dice, of nnU-Net's `summary.json`."""
    cases = summary["metric_per_case"]
    # NaN, where neither label map nor prediction has a class, counts for nothing
    found = [[dice["Dice"] for dice in case["metrics"].values() if dice["Dice"] == dice["Dice"]] for case in cases]
    order = sorted(range(len(cases)), key=lambda index: mean(found[index]) if found[index] else 0.0)
    return Path(cases[order[len(order) // 2]]["reference_file"])


def draw(views: Views, path: Path, *, title: str) -> None:
    """Write the slice with most classes, and of those the one with most foreground, as a PNG of four panels."""
    z = max(range(len(views.truth)), key=lambda i: (len(np.unique(views.truth[i])), np.sum(views.truth[i] > 0)))
    classes = {"cmap": "tab10", "vmin": 0, "vmax": 9, "interpolation": "nearest", "alpha": 0.75}
    figure = Figure(figsize=(13, 3.8), layout="constrained")
    panels: Any = figure.subplots(1, 4)
    for panel, name in zip(panels, ("image", "truth", "prediction", "keep-map")):
        panel.imshow(views.image[z], cmap="gray")
        panel.set_title(name)
        panel.set_axis_off()
    for panel, labels in ((panels[1], views.truth[z]), (panels[2], views.prediction[z])):
        panel.imshow(np.ma.masked_less_equal(labels, 0), **classes)
    heat = panels[3].imshow(
        views.keep[z], cmap="inferno", vmin=0, vmax=views.num_stages, alpha=0.65, interpolation="nearest"
    )
    bar = figure.colorbar(heat, ax=panels[3], ticks=range(views.num_stages + 1), shrink=0.85)
    bar.ax.set_yticklabels([f"left at stage {i + 1}" for i in range(views.num_stages)] + ["kept to the end"])
    figure.suptitle(title)
    figure.savefig(path, dpi=110)
