"""A MONAI bundle as a model folder that nnU-Net predicts with."""

from __future__ import annotations

from pathlib import Path

from scd_plugin.bridge.from_monai.bundle_reader import Bundle
from scd_plugin.bridge.from_monai.made_for_monai import made_for_monai
from scd_plugin.bridge.from_monai.moved_model import Moved
from scd_plugin.bridge.from_monai.returned import came_from_nnunet

__all__ = ["bundle_to_nnunet"]


def bundle_to_nnunet(
    bundle: str | Path, *, trainer: str | None = None, dataset_json: str | Path | None = None
) -> Moved:
    """Turn a bundle into a model of nnU-Net, whose plans name the network, so that any trainer builds it.

    Args:
        bundle: a folder, written by `to_monai` or any other with SCD's network.
        trainer: name that goes into the checkpoint; None for the trainer of the model, or nnUNetTrainerSCD.
        dataset_json: nnU-Net's description of the labels; None to take it from the bundle's metadata. Needed where
            the bundle predicts regions and its metadata does not say of which labels they are made.

    Raises:
        ValueError: naming what can't be expressed.
    """
    source = Bundle.read(bundle)
    if source.from_nnunet:
        return came_from_nnunet(source, trainer)
    return made_for_monai(source, trainer, dataset_json)
