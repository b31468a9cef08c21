"""Whether an image looks like those of the training. What does not is said and predicted all the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scd_plugin.nnunet.model.recipe import Array, NnunetRecipe

__all__ = ["doubts"]

# an image of so few whole numbers is rather a label map
FEW_VALUES = 12
# of the training's range between its percentiles of 0.5 and 99.5
NARROW = 0.05
SPACING_FACTOR = 4.0
# that many voxels tell as much as all
ENOUGH = 1_000_000
# nnU-Net's readers give it to an axis that a flat image does not have
_NO_SPACING = 999.0


def doubts(image: Array, spacing: Sequence[float], recipe: NnunetRecipe) -> list[str]:
    """Say in a sentence each what is unlike the images of the training.

    Args:
        image: (C, Z, Y, X), with the intensities of the file.
        spacing: mm in z, y, x.
        recipe: plans of the training; what they do not say is not compared.
    """
    found = []
    schemes = recipe.configuration.normalization_schemes
    known = recipe.plans.foreground_intensity_properties_per_channel
    for number, (channel, name, scheme) in enumerate(zip(image, recipe.channel_names.values(), schemes)):
        step = max(1, round((channel.size / ENOUGH) ** (1 / 3)))
        some = channel[::step, ::step, ::step]
        # only CT has a unit that every image shares
        of_training = known.get(str(number)) if scheme == "CTNormalization" else None
        if channel.min() == channel.max():
            found.append(f"channel {name} has the value {channel.min():g} everywhere: is it the right file?")
        elif _like_labels(some):
            found.append(f"channel {name} has no more than {FEW_VALUES} values, all whole: is it a label map?")
        elif of_training and (unlike := _unlike(some, of_training["percentile_00_5"], of_training["percentile_99_5"])):
            found.append(f"channel {name} {unlike}: is it in the same unit?")
    return found + _spacing_doubts(spacing, recipe)


def _like_labels(voxels: Array) -> bool:
    return bool((voxels == np.rint(voxels)).all()) and len(np.unique(voxels)) <= FEW_VALUES


def _unlike(voxels: Array, low: float, high: float) -> str:
    """Say so where voxels and the training's range do not overlap, or the voxels hardly differ beside that range."""
    first, last = (float(value) for value in np.percentile(voxels, (0.5, 99.5)))
    if last < low or first > high or last - first < NARROW * (high - low):
        return f"lies between {first:.4g} and {last:.4g}, where the training's organs had {low:.4g} to {high:.4g}"
    return ""


def _spacing_doubts(spacing: Sequence[float], recipe: NnunetRecipe) -> list[str]:
    planned = recipe.plans.plans.get("original_median_spacing_after_transp")
    if planned is None:
        return []
    usual = [planned[axis] for axis in recipe.plans.transpose_backward]
    pairs = [pair for pair in zip(spacing, usual) if _NO_SPACING not in pair]
    if all(1 / SPACING_FACTOR <= here / there <= SPACING_FACTOR for here, there in pairs):
        return []
    ours, theirs = (" x ".join(f"{edge:.3g}" for edge in edges[::-1]) for edges in (spacing, usual))
    return [f"its voxels of {ours} mm are far from the training's, {theirs} mm in the middle"]
