"""Makes the predictor of a model: its network as the settings ask for it, behind nnU-Net's sliding window."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from nnunetv2.inference.sliding_window_prediction import compute_gaussian
from torch import nn

from scd_plugin.networks.cast_weights import cast_weights
from scd_plugin.networks.family import SCDNetwork
from scd_plugin.networks.openvino_network import OpenVINONetwork
from scd_plugin.nnunet.model.trained_model import ModelFolder
from scd_plugin.nnunet.model.trained_network import build_network
from scd_plugin.nnunet.predict.settings import PredictSettings
from scd_plugin.nnunet.predict.threads import nnunets_threads
from scd_plugin.nnunet.predict.windows import WindowPredictor

__all__ = ["compile_ahead", "predictor_of"]


@contextmanager
def predictor_of(model: ModelFolder, settings: PredictSettings) -> Iterator[WindowPredictor]:
    """Make the predictor of a model, with the share of tokens and the engine that the settings ask for.

    Raises:
        ValueError: if the weights do not fit the trainer's network, or settings do not.
    """
    network = _build_network(model, settings)
    try:
        yield WindowPredictor(network, model.recipe, model.weights, settings, mirror_axes=model.mirror_axes)
    finally:
        # nnU-Net keeps it on the device
        compute_gaussian.cache_clear()


def _build_network(model: ModelFolder, settings: PredictSettings) -> nn.Module:
    """Build the network, with the weights of the first fold."""
    network = build_network(model)
    if settings.keep is not None:
        if not isinstance(network, SCDNetwork) or not network.pruning_stages():
            msg = f"keep is for networks that prune tokens, and that of {model.trainer_name} prunes none; leave it out"
            raise ValueError(msg)
        network.set_keep_ratio(settings.keep)
    if settings.engine == "openvino":
        compiled = OpenVINONetwork(network, settings.network_dtype, settings.threads or nnunets_threads())
        compiled.load_state_dict(model.weights[0])
        return compiled
    if settings.network_dtype != "float32":
        cast_weights(network, getattr(torch, settings.network_dtype))
    return network


def compile_ahead(predictor: WindowPredictor, model: ModelFolder) -> None:
    """Compile the first fold of a network that OpenVINO runs, before the first case waits for it."""
    if isinstance(predictor.network, OpenVINONetwork):
        recipe = model.recipe
        window = (predictor.settings.batch, recipe.num_channels, *recipe.configuration.patch_size)
        predictor.network.compile_for(torch.empty(window))
