"""Where a network looked: at which pruning stage each voxel's token left, on the grid of the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from torch import Tensor, nn

from scd_plugin.measure.heard_stages import HeardStages
from scd_plugin.nnunet.model.recipe import Array, NnunetRecipe

__all__ = ["KeepMap", "WholeImage", "on_image_grid"]


class WholeImage(NamedTuple):
    """What was heard of an image, (*size), uint8."""

    latest: Tensor
    """the latest stage at which a voxel's token left, from 1; number of stages plus 1 if it stayed; 0 if not seen"""
    kept_percent: Tensor
    """per cent of the passes in which the voxel's token was kept to the end"""


class KeepMap:
    """Listens to a network that is run over an image's windows, and puts its stages together.

    Where windows or folds overlap, the latest stage counts. Mirrored passes are not looked at.

    Raises:
        ValueError: if the network prunes nothing.
    """

    def __init__(self, network: nn.Module) -> None:
        self._heard = HeardStages(network)
        self.num_stages = self._heard.num_stages
        self._latest: Tensor | None = None
        self._passes = self._kept = torch.empty(0)

    def forget(self) -> None:
        """Start anew, whatever a pass that failed has left."""
        self._latest = None
        self._heard.forget()

    def begin(self, size: Sequence[int]) -> None:
        """Start a pass over an image, padded to `size`; another fold of the same image adds to what is there."""
        if self._latest is None:
            self._latest = torch.zeros(tuple(size), dtype=torch.uint8)
            self._passes, self._kept = (torch.zeros(tuple(size), dtype=torch.int16) for _ in range(2))
        self._heard.forget()

    def add(self, windows: Sequence[Sequence[Any]]) -> None:
        """Take what the last forward pass showed of windows, which are slices of (C, *size)."""
        values = self._heard.take()
        if self._latest is None or values is None:
            return
        for window, value in zip(windows, values.cpu()):
            place = tuple(window[1:])
            self._latest[place] = torch.maximum(self._latest[place], value)
            self._passes[place] += 1
            self._kept[place] += value > self.num_stages

    def take(self, size: Sequence[int], window: Sequence[int]) -> WholeImage:
        """Return what was heard of the image (*size) without what nnU-Net padded it by, and forget it."""
        if self._latest is None:
            msg = "there was no pass over an image"
            raise RuntimeError(msg)
        percent = (100 * self._kept.float() / self._passes.clamp(min=1)).round().to(torch.uint8)
        latest, self._latest = self._latest, None
        _, revert = pad_nd_image(
            torch.zeros((1, *size), dtype=torch.uint8), window, "constant", {"value": 0}, True, None
        )
        inside = tuple(revert[1:])
        return WholeImage(latest[inside], percent[inside])


def on_image_grid(values: Tensor, recipe: NnunetRecipe, known: dict[str, Any]) -> Array:
    """Bring a map of a preprocessed image back to the image's own grid (Z, Y, X), by the nearest voxel.

    `known` is what `NnunetRecipe.preprocess` says of the image; what it cut away has 0.
    """
    size = tuple(known["shape_after_cropping_and_before_resampling"])
    cropped = F.interpolate(values[None, None].float(), size=size, mode="nearest-exact")[0, 0].to(torch.uint8)
    return recipe.uncropped(cropped.numpy(), known)
