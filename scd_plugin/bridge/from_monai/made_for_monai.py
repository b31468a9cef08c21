"""A bundle with MONAI's own transforms: plans are made for it, as far as nnU-Net can do what these do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai.inferers import SlidingWindowInferer

from scd_plugin.bridge.from_monai.bundle_reader import Bundle, read_weights
from scd_plugin.bridge.from_monai.moved_model import TRAINER, Moved
from scd_plugin.bridge.from_monai.new_plans import CONFIGURATION, build_dataset, build_plans, build_region_dataset
from scd_plugin.bridge.from_monai.postprocessing import in_painting_order, region_painting, window_notes
from scd_plugin.bridge.from_monai.preprocessing import express
from scd_plugin.folders import read_json
from scd_plugin.nnunet.model.recipe import NnunetRecipe

__all__ = ["made_for_monai"]


def made_for_monai(source: Bundle, trainer: str | None, dataset_json: str | Path | None) -> Moved:
    """Turn such a bundle into a model of nnU-Net; arguments as in `bundle_to_nnunet`.

    Raises:
        ValueError: naming what plans can't express.
    """
    in_channels, *img_size = source.network.network.image_shape
    out_channels = source.network.network.out_channels
    if len(img_size) != 3:
        dims = len(img_size)
        msg = f"network_def must have spatial_dims=3, the only bundles made for MONAI that can be moved; got {dims}"
        raise ValueError(msg)
    if not isinstance(source.inferer, SlidingWindowInferer):
        kind = type(source.inferer).__name__
        msg = f"the inferer must be MONAI's SlidingWindowInferer, since nnU-Net slides a window too; got {kind}"
        raise ValueError(msg)
    window = source.inferer
    roi_size = window.roi_size if isinstance(window.roi_size, Sequence) else [window.roi_size] * 3
    notes = window_notes(roi_size, _overlap(window.overlap), str(window.mode), img_size)
    preprocessing = express(source.preprocessing, num_channels=in_channels, img_size=img_size)
    painting = region_painting(source.postprocessing)
    plans = build_plans(source.network, preprocessing, name=source.root.resolve().name)
    recipe = NnunetRecipe(plans, _dataset(source, dataset_json, regions=painting is not None), CONFIGURATION)
    dataset, heads = recipe.dataset, recipe.labels.num_segmentation_heads
    if heads != out_channels:
        msg = f"the network has {out_channels} output channels where its labels make {heads}: {dataset['labels']}"
        raise ValueError(msg)
    name = trainer or TRAINER
    source.network.must_be_of(name, recipe)
    file = source.root / "models" / "model.pt"
    weights = source.network.checked(read_weights(file), str(file))
    if painting is not None:
        names = [source.output_names.get(str(channel), "") for channel in range(out_channels)]
        dataset, channels = in_painting_order(dataset, names, painting)
        weights = source.network.network.with_outputs(weights, channels)
    return Moved(plans, dataset, name, CONFIGURATION, {"0": weights}, None, [*preprocessing.notes, *notes])


def _overlap(overlap: float | Sequence[float]) -> float:
    """Return the windows' overlap as one number."""
    shares = set(overlap) if isinstance(overlap, Sequence) else {overlap}
    if len(shares) != 1:
        msg = f"the inferer's overlap must be the same for all axes, as nnU-Net's is; got {tuple(overlap)}"  # type: ignore[arg-type]
        raise ValueError(msg)
    return float(shares.pop())


def _dataset(source: Bundle, dataset_json: str | Path | None, *, regions: bool) -> dict[str, Any]:
    """The dataset.json that is given, or one made from the bundle's metadata."""
    if dataset_json is not None:
        given: Any = read_json(Path(dataset_json))
        if isinstance(given, dict) and (given.get("regions_class_order") is not None) != regions:
            kind = "regions" if regions else "classes"
            msg = f"the bundle predicts {kind}, and {dataset_json} does not: see its labels and regions_class_order"
            raise ValueError(msg)
        return given
    if regions and source.dataset.get("regions_order"):
        return build_region_dataset(source.channel_names, source.dataset)
    if regions:
        msg = (
            "the bundle predicts regions that overlap, and its metadata does not say of which labels they are made: "
            "give nnU-Net's dataset.json with labels and regions_class_order (--dataset-json)"
        )
        raise ValueError(msg)
    return build_dataset(source.channel_names, source.output_names)
