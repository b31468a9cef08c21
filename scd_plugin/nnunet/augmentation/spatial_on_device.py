"""nnU-Net's rotation, scaling and crop of an image on a device."""

from __future__ import annotations

from typing import Any

import torch
from batchgeneratorsv2.transforms.spatial.spatial import (
    SpatialTransform,
    _convert_my_grid_to_grid_sample_grid,
    _create_centered_identity_grid2,
)
from torch import Tensor

from scd_plugin.nnunet.augmentation.made_there import MadeThere

__all__ = ["SpatialOnDevice"]


class SpatialOnDevice(SpatialTransform):
    """`SpatialTransform` as it is set, which draws as ever, and computes grid and result where the image is.

    Args:
        transform: whose settings it takes.
        device: where the images are.
    """

    def __init__(self, transform: SpatialTransform, device: torch.device) -> None:
        self.__dict__.update(vars(transform))
        self.device = device
        with MadeThere(device):
            self.base = _create_centered_identity_grid2(self.patch_size).float().contiguous()
            """Positions of the patch's voxels, in voxels from its middle: (D, H, W, 3), or (H, W, 2)."""

    def _get_base_grid_clone(self) -> Tensor:
        # the grid is made anew on the device, unless noise drawn on the CPU deforms it
        return super()._get_base_grid_clone() if self.p_elastic_deform else torch.zeros(1, len(self.patch_size))

    def get_parameters(self, **data_dict: Any) -> dict[str, Any]:
        """Draw as the base class does; the grid lies on the device."""
        params: dict[str, Any] = super().get_parameters(**data_dict)
        if params["grid"] is not None:
            params["grid"] = self._grid(params, data_dict["image"].shape[1:])
        return params

    def _grid(self, params: dict[str, Any], shape: torch.Size) -> Tensor:
        """Where the patch's voxels are taken from an image of that shape, as `grid_sample` wants it."""
        if params["elastic_offsets"] is not None:
            return params["grid"].to(self.device)
        # as in the base class, in the same order, so that it is the same to the last bit
        affine = torch.from_numpy(params["affine"].T).float().to(self.device)
        centre = torch.tensor([place - size / 2 for place, size in zip(params["center_location_in_pixels"], shape)])
        return _convert_my_grid_to_grid_sample_grid(torch.matmul(self.base, affine) + centre.to(self.device), shape)

    def _apply_to_segmentation(self, segmentation: Tensor, **params: Any) -> Tensor:
        # of NumPy it wants nothing but which labels there are
        with MadeThere(self.device, numpy=_distinct):
            return super()._apply_to_segmentation(segmentation, **params)


def _distinct(labels: Tensor) -> Any:
    return torch.unique(labels).cpu().numpy()
