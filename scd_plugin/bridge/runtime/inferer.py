"""nnU-Net's sliding window, mirroring and averaging of folds as a MONAI inferer."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from torch import Tensor, nn

from scd_plugin.monai.weights import load_weights
from scd_plugin.nnunet.model.recipe import NnunetRecipe
from scd_plugin.nnunet.predict.prepare import non_finite_channels
from scd_plugin.nnunet.predict.settings import PredictSettings
from scd_plugin.nnunet.predict.windows import WindowPredictor

__all__ = ["NnunetInferer"]

_LOGGER = logging.getLogger(__name__)


def _axes(given: Any, number: int) -> tuple[int, ...] | None:
    """Axes to mirror over; None for no mirroring."""
    if given is None:
        return None
    listed = list(given) if isinstance(given, (list, tuple)) else [given]
    if not isinstance(given, (list, tuple)) or any(type(axis) is not int or not 0 <= axis < number for axis in listed):
        msg = f"mirror_axes must be a list of axes from 0 to {number - 1}, [] for no mirroring; got {given!r}"
        raise ValueError(msg)
    return tuple(listed) or None


class NnunetInferer(Inferer):
    """Predicts as `nnUNetv2_predict` does, with nnU-Net's own predictor.

    Args:
        recipe: plans and data set.
        mirror_axes: axes of the preprocessed image over which to mirror, from 0; None or empty for no mirroring.
        step_size: step of the window as a share of it, in (0, 1].
        more_weights: state dicts of further folds, in files; logits are averaged over them and the network's own.

    Raises:
        ValueError: if axes or step are none of these; when called, if weights can't be read or do not fit.
    """

    def __init__(
        self,
        recipe: NnunetRecipe,
        mirror_axes: Sequence[int] | None = None,
        step_size: float = 0.5,
        more_weights: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.settings = PredictSettings(step_size=step_size)
        self.recipe = recipe
        self.mirror_axes = _axes(mirror_axes, len(recipe.configuration.patch_size))
        self.step_size = step_size
        self.more_weights = list(more_weights)
        self._folds: list[dict[str, Tensor]] | None = None

    def __call__(self, inputs: Tensor, network: nn.Module, *_: Any, **__: Any) -> Tensor:
        """Logits (B, classes or regions, *size) of preprocessed images (B, C, *size), float16 on the CPU as in nnU-Net.

        The network has the weights of the first fold.
        """
        images = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        own = _copied(network)
        for image in images:
            if bad := non_finite_channels(image):
                _LOGGER.warning(
                    "channels %s of an image hold NaN or infinite voxels: its label map means nothing. Replace these "
                    "voxels in the image and predict it again",
                    bad,
                )
        try:
            if self._folds is None:
                self._folds = self._loaded(network)
            predictor = WindowPredictor(
                network,
                self.recipe,
                [own, *self._folds],
                self.settings,
                mirror_axes=self.mirror_axes,
                device=images.device,
            )
            logits = [predictor.predict_logits_from_preprocessed_data(image.cpu()) for image in images]
        finally:
            network.load_state_dict(own)
        return torch.stack(logits)

    def _loaded(self, network: nn.Module) -> list[dict[str, Tensor]]:
        """Read the further folds by way of the network, which keeps the last; ValueError where one does not fit."""
        folds = []
        for path in self.more_weights:
            load_weights(network, Path(path))
            folds.append({name: value.cpu() for name, value in _copied(network).items()})
        return folds


def _copied(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}
