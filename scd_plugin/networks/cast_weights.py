"""Casts weights once instead of at every call."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from scd_plugin.blocks.score import ScorePredictor
from scd_plugin.networks.scd_primus import SCDPrimus
from scd_plugin.networks.scd_unetr import SCDUNETR

__all__ = ["cast_weights"]


def cast_weights(network: nn.Module, dtype: torch.dtype) -> None:
    """Give a network's linear and convolution layers, for prediction, weights in the type that autocast casts them to.

    Under autocast to `dtype` its results stay what they were, to the last bit; without autocast it no longer runs.
    Autocast itself keeps what it has cast in none of nnU-Net's predictions, which run in inference mode, so every
    window would wait for more than a hundred casts. State dicts in float32 still load.

    Only `SCDUNETR` and `SCDPrimus` are changed: a network of someone else's parts may read weights in its own way.
    """
    if type(network) not in (SCDUNETR, SCDPrimus):
        return
    # read in float32 under autocast too
    exact = {module.score for module in network.modules() if isinstance(module, ScorePredictor)}
    for module in network.modules():
        if isinstance(module, (nn.Linear, _ConvNd)) and module not in exact:
            module.to(dtype)
