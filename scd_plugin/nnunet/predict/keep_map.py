"""Where a network looked: at which pruning stage each voxel's token left, on the grid of the image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from torch import Tensor, nn

from scd_plugin.blocks.pruning import PrunedTokens
from scd_plugin.networks.family import SCDNetwork
from scd_plugin.nnunet.model.recipe import Array, NnunetRecipe
from scd_plugin.ops import exit_stages
from scd_plugin.whole_files import moved_into_place

__all__ = ["FOLDER", "KeepMap", "on_image_grid", "stage_names", "write_colours"]

FOLDER = "keep_maps"
COLOURS = "keep_map.ctbl"


def stage_names(num_stages: int) -> list[str]:
    """Names of the values of a keep map, from 0: not seen by the network, left at stage 1, ..., kept to the end."""
    return ["not seen", *(f"left at stage {number + 1}" for number in range(num_stages)), "kept to the end"]


class KeepMap:
    """Listens to a network that is run over an image's windows, and puts its stages together.

    Where windows or folds overlap, the latest stage counts. Mirrored passes are not looked at.

    Raises:
        ValueError: if the network prunes nothing.
    """

    def __init__(self, network: nn.Module) -> None:
        if not isinstance(network, SCDNetwork) or not network.pruning_stages():
            msg = "keep-map is for networks that prune tokens, and this one prunes none; leave it out"
            raise ValueError(msg)
        self.grid_size = list(network.grid_size)
        self.token_size = list(network.token_size())
        stages = network.pruning_stages()
        self.num_stages = len(stages)
        self._sets: list[Tensor] = []
        self._map: Tensor | None = None
        for stage in stages:
            stage.register_forward_hook(self._listen)

    def forget(self) -> None:
        """Start anew, whatever a pass that failed has left."""
        self._map, self._sets = None, []

    def begin(self, size: Sequence[int]) -> None:
        """Start a pass over an image, padded to `size`; another fold of the same image adds to what is there."""
        if self._map is None:
            self._map = torch.zeros(tuple(size), dtype=torch.uint8)
        self._sets = []

    def add(self, windows: Sequence[Sequence[Any]]) -> None:
        """Take what the last forward pass showed of windows, which are slices of (C, *size)."""
        if self._map is None or not self._sets:
            return
        values = (exit_stages(self._sets) + 1).to(torch.uint8).cpu()
        values = values.reshape([len(values), *self.grid_size])
        for axis, voxels in enumerate(self.token_size):
            values = values.repeat_interleave(voxels, dim=axis + 1)
        for window, value in zip(windows, values):
            place = tuple(window[1:])
            self._map[place] = torch.maximum(self._map[place], value)
        self._sets = []

    def take(self, size: Sequence[int], window: Sequence[int]) -> Tensor:
        """Return the map of the image (*size) without what nnU-Net padded it by, and forget it."""
        if self._map is None:
            msg = "there was no pass over an image"
            raise RuntimeError(msg)
        found, self._map = self._map, None
        _, revert = pad_nd_image(
            torch.zeros((1, *size), dtype=torch.uint8), window, "constant", {"value": 0}, True, None
        )
        inside: Tensor = found[tuple(revert[1:])]
        return inside

    def _listen(self, _: nn.Module, __: tuple[Any, ...], pruned: PrunedTokens) -> None:
        # the first pass is not mirrored
        if len(self._sets) < self.num_stages:
            self._sets.append(pruned.left_idx)
            if len(self._sets) == self.num_stages:
                self._sets.append(pruned.kept_idx)


def on_image_grid(values: Tensor, recipe: NnunetRecipe, known: dict[str, Any]) -> Array:
    """Bring a keep map of a preprocessed image back to the image's own grid (Z, Y, X), by the nearest voxel.

    `known` is what `NnunetRecipe.preprocess` says of the image; what it cut away has 0.
    """
    size = tuple(known["shape_after_cropping_and_before_resampling"])
    cropped = F.interpolate(values[None, None].float(), size=size, mode="nearest-exact")[0, 0].to(torch.uint8)
    return recipe.uncropped(cropped.numpy(), known)


def write_colours(folder: Path, num_stages: int) -> Path:
    """Write names and colours of the values as a colour table of 3D Slicer; it appears whole or not at all."""
    from matplotlib import colormaps

    names = stage_names(num_stages)
    shades = colormaps["viridis"](np.linspace(0, 1, len(names) - 1))
    lines = [f"0 {names[0].replace(' ', '_')} 0 0 0 0"]
    for number, (name, shade) in enumerate(zip(names[1:], shades), start=1):
        red, green, blue = (round(255 * part) for part in shade[:3])
        lines.append(f"{number} {name.replace(' ', '_')} {red} {green} {blue} 255")
    path = folder / COLOURS
    with moved_into_place(path) as partial:
        partial.write_text(f"# Color table file {path.name}\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return path
