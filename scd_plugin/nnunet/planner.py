"""nnU-Net planners whose GPU memory target counts what SCD needs instead of a U-Net's feature maps.

`nnUNetv2_plan_experiment -d 4 -pl nnUNetPlannerSCD`: pruned tokens free memory, which becomes a larger crop or batch.
The plans still describe nnU-Net's default U-Net, so stock trainers can use them too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner

from scd_plugin.networks import SCDUNETR
from scd_plugin.networks.memory import saved_bytes
from scd_plugin.networks.presets import FAST_KEEP_RATIO
from scd_plugin.nnunet.plans import PATCH_TARGET, network_arguments

__all__ = ["nnUNetPlannerSCD", "nnUNetPlannerSCD_fast", "nnUNetPlannerSCD_large", "nnUNetPlannerSCD_small"]

# nnU-Net measures a network by the elements of its convolutions' outputs and knows how many of them fit a GPU. Its
# U-Nets keep 7.89 bytes of float32 an element for the backward pass, whatever their size (7.83 with residual blocks).
BYTES_PER_UNIT = 7.89
# AdamW holds weight, gradient and two moments of every parameter; the U-Net's SGD one moment less.
BYTES_PER_PARAMETER = 16
UNET_PARAMETER_BYTES = 31_000_000 * 12


class nnUNetPlannerSCD(ExperimentPlanner):
    """For `nnUNetTrainerSCD`."""

    scd_size = "base"
    """Network size, see `scd_plugin.networks.presets`."""
    scd_keep_ratio: float | Sequence[float] = 0.25
    """Share of the tokens kept at each pruning stage."""

    def __init__(
        self,
        dataset_name_or_id: str | int,
        gpu_memory_target_in_gb: float = 8,
        preprocessor_name: str = "DefaultPreprocessor",
        plans_name: str | None = None,
        overwrite_target_spacing: Sequence[float] | None = None,
        suppress_transpose: bool = False,
    ) -> None:
        plans_name = plans_name or type(self).__name__.replace("Planner", "Plans")
        super().__init__(
            dataset_name_or_id,
            gpu_memory_target_in_gb,
            preprocessor_name,
            plans_name,
            overwrite_target_spacing,
            suppress_transpose,
        )
        # what weights and optimiser take beyond the U-Net's is not there for feature maps
        self.UNet_vram_target_GB = max(1.0, gpu_memory_target_in_gb - self._extra_parameter_bytes() / 1e9)

    def static_estimate_VRAM_usage(  # nnU-Net's is static; ours depends on the size  # noqa: N802
        self,
        patch_size: Sequence[int],
        input_channels: int,
        output_channels: int,
        arch_class_name: str,
        arch_kwargs: dict[str, Any],
        arch_kwargs_req_import: Sequence[str],
    ) -> float:
        """Memory of one sample in nnU-Net's unit; infinite where tokens would have to grow beyond 8 voxels."""
        arguments = network_arguments(
            {"patch_size": patch_size, "architecture": {"arch_kwargs": arch_kwargs}}, size=self.scd_size
        )
        if max(arguments["patch_size"]) > PATCH_TARGET:
            return float("inf")
        settings = {**arguments, "keep_ratio": self.scd_keep_ratio}
        image_shape = (1, input_channels, *arguments["img_size"])
        return saved_bytes(lambda: SCDUNETR(input_channels, output_channels, **settings), image_shape) / BYTES_PER_UNIT

    def generate_data_identifier(self, configuration_name: str) -> str:
        """Share preprocessed data with nnU-Net's default planner where they are the same, as its ResEnc planners do."""
        if configuration_name in ("2d", "3d_fullres") and self.overwrite_target_spacing is None:
            return f"nnUNetPlans_{configuration_name}"
        identifier: str = super().generate_data_identifier(configuration_name)
        return identifier

    def _extra_parameter_bytes(self) -> float:
        arguments = network_arguments(
            {"patch_size": [96, 96, 96], "architecture": {"arch_kwargs": {"strides": [2, 2, 2, 2]}}}, size=self.scd_size
        )
        with torch.device("meta"):
            network = SCDUNETR(1, 2, **arguments)
        parameters = sum(parameter.numel() for parameter in network.parameters())
        return max(0.0, parameters * BYTES_PER_PARAMETER - UNET_PARAMETER_BYTES)


class nnUNetPlannerSCD_small(nnUNetPlannerSCD):
    """For `nnUNetTrainerSCD_small`."""

    scd_size = "small"


class nnUNetPlannerSCD_fast(nnUNetPlannerSCD):
    """For `nnUNetTrainerSCD_fast`."""

    scd_size = "base-fast"
    scd_keep_ratio = FAST_KEEP_RATIO


class nnUNetPlannerSCD_large(nnUNetPlannerSCD):
    """For `nnUNetTrainerSCD_large`."""

    scd_size = "large"
