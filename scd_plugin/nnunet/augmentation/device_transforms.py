"""nnU-Net's training transforms (batchgeneratorsv2), made ready for images on a device.

They are written for the CPU: most work on any device, some make a tensor on the CPU beside an image that is not there,
some read the image by NumPy. What a transform draws is drawn as ever, from the same generators in the same order;
noise, and which channels are changed, on the image's device where the transform itself does so.

| Transform | On a device |
|---|---|
| noise, brightness, contrast, low resolution, gamma, mirroring, 2-D from 3-D | as it is |
| mask, labels of -1, deep supervision | as it is |
| spatial | the grid is made there, and there it is found which labels a crop has (`SpatialOnDevice`) |
| blur | the kernel is made there; never by FFT, which it chooses by timing both |
| regions | their label values lie there |
| cascade: one-hot, binary operators | new channels and the structuring element are made there |
| any other, such as removal of components in a cascade | on the CPU, and back (`OnCPU`) |

Source: batchgeneratorsv2 0.3.6, and `nnUNetTrainer.get_training_transforms` of nnunetv2 2.8.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from functools import partial
from typing import Any

import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
from batchgeneratorsv2.transforms.intensity.contrast import ContrastTransform
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
from batchgeneratorsv2.transforms.nnunet.random_binary_operator import ApplyRandomBinaryOperatorTransform
from batchgeneratorsv2.transforms.nnunet.seg_to_onehot import MoveSegAsOneHotToDataTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.deep_supervision_downsampling import DownsampleSegForDSTransform
from batchgeneratorsv2.transforms.utils.nnunet_masking import MaskImageTransform
from batchgeneratorsv2.transforms.utils.pseudo2d import Convert2DTo3DTransform, Convert3DTo2DTransform
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from batchgeneratorsv2.transforms.utils.remove_label import RemoveLabelTransform
from batchgeneratorsv2.transforms.utils.seg_to_regions import ConvertSegmentationToRegionsTransform
from torch import Tensor

from scd_plugin.nnunet.augmentation.made_there import MadeThere
from scd_plugin.nnunet.augmentation.spatial_on_device import SpatialOnDevice

__all__ = ["OnCPU", "leaves", "on_device"]

_AS_THEY_ARE = (
    GaussianNoiseTransform,
    MultiplicativeBrightnessTransform,
    ContrastTransform,
    SimulateLowResolutionTransform,
    GammaTransform,
    MirrorTransform,
    MaskImageTransform,
    RemoveLabelTransform,
    DownsampleSegForDSTransform,
    Convert3DTo2DTransform,
    Convert2DTo3DTransform,
)


class AppliedThere(BasicTransform):
    """A transform that draws on the CPU, and applies what it drew where the image is."""

    def __init__(self, transform: BasicTransform, device: torch.device) -> None:
        super().__init__()
        self.transform = transform
        self.device = device

    def get_parameters(self, **data: Any) -> dict[str, Any]:
        return dict(self.transform.get_parameters(**data))

    def apply(self, data_dict: dict[str, Any], **params: Any) -> dict[str, Any]:
        with MadeThere(self.device):
            return dict(self.transform.apply(data_dict, **params))


class OnCPU(BasicTransform):
    """A transform that knows no other place than the CPU: what it takes is fetched, what it gives is brought back."""

    def __init__(self, transform: BasicTransform, device: torch.device) -> None:
        super().__init__()
        self.transform = transform
        self.device = device

    def __call__(self, **data: Any) -> dict[str, Any]:  # noqa: D102  (nnU-Net's)
        return _moved(self.transform(**_moved(data, torch.device("cpu"))), self.device)


def on_device(transform: BasicTransform, device: torch.device) -> BasicTransform:
    """Make a transform, or a tree of them, ready for images on a device; the one that is given stays as it is."""
    kind = type(transform)
    if kind is ComposeTransforms:
        return ComposeTransforms([on_device(part, device) for part in transform.transforms])
    if kind is RandomTransform:
        return RandomTransform(on_device(transform.transform, device), transform.apply_probability)
    # a subclass may do anything
    return transform if kind in _AS_THEY_ARE else _ADAPTED.get(kind, OnCPU)(transform, device)


def leaves(transform: BasicTransform) -> Iterator[BasicTransform]:
    """The transforms of a tree, in their order, without what holds them together."""
    if isinstance(transform, ComposeTransforms):
        for part in transform.transforms:
            yield from leaves(part)
    elif isinstance(transform, RandomTransform):
        yield from leaves(transform.transform)
    else:
        yield transform


def _blur(transform: GaussianBlurTransform, device: torch.device) -> BasicTransform:
    # a device is done later than it answers, so what was timed would mean nothing
    (transform := copy(transform)).benchmark = False
    return AppliedThere(transform, device)


def _regions(transform: ConvertSegmentationToRegionsTransform, device: torch.device) -> BasicTransform:
    (transform := copy(transform)).regions = [labels.to(device) for labels in transform.regions]
    return transform


def _binary(transform: ApplyRandomBinaryOperatorTransform, device: torch.device) -> BasicTransform:
    operators = tuple(partial(_operate, operator) for operator in transform.any_of_these)
    (transform := copy(transform)).any_of_these = operators
    return AppliedThere(transform, device)


def _operate(operator: Callable[[Tensor, Tensor], Tensor], image: Tensor, element: Tensor) -> Tensor:
    return operator(image, element.to(image.device))


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, dict):
        return {name: _moved(part, device) for name, part in value.items()}
    if isinstance(value, list):
        return [_moved(part, device) for part in value]
    return value.to(device) if isinstance(value, Tensor) else value


_ADAPTED: dict[type, Callable[[Any, torch.device], BasicTransform]] = {
    SpatialTransform: SpatialOnDevice,
    GaussianBlurTransform: _blur,
    ConvertSegmentationToRegionsTransform: _regions,
    MoveSegAsOneHotToDataTransform: AppliedThere,
    ApplyRandomBinaryOperatorTransform: _binary,
}
