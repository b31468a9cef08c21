"""nnU-Net planners whose GPU memory target counts what SCD needs, with keep ratios that labels ask for.

`nnUNetv2_plan_experiment -d 4 -pl nnUNetPlannerSCD`: pruned tokens free memory, which becomes a larger crop or batch.
The plans hold the network itself, so that nnU-Net's own commands build it whatever the trainer; see `planned_network`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from scd_plugin.measure.cost import parameters
from scd_plugin.measure.saved_memory import saved_bytes
from scd_plugin.networks.builder import NETWORKS, network_arguments
from scd_plugin.networks.presets import PRESETS
from scd_plugin.nnunet.planning.counting_planner import CountingPlanner
from scd_plugin.nnunet.planning.planned_network import architecture_of
from scd_plugin.nnunet.planning.token_sizes import PATCH_TARGET, token_geometry

# nnU-Net measures a network by the elements of its convolutions' outputs and knows how many of them fit a GPU. Its
# U-Nets keep 7.89 bytes of float32 an element for the backward pass, whatever their size (7.83 with residual blocks).
BYTES_PER_UNIT = 7.89
# AdamW holds weight, gradient and two moments of every parameter; the U-Net's SGD one moment less.
BYTES_PER_PARAMETER = 16
_VOLUME = 3
UNET_PARAMETER_BYTES = 31_000_000 * 12


class nnUNetPlannerSCD(CountingPlanner):
    """Crop and batch for SCD's memory, and the whole network in the plans, which any SCD trainer then builds."""

    def __init__(self, *args: Any, plans_name: str | None = None, **kwargs: Any) -> None:
        plans_name = plans_name or type(self).__name__.replace("Planner", "Plans")
        super().__init__(*args, plans_name=plans_name, **kwargs)
        self._keep_ratio = self.planned_ratio("")
        self._said_one_slice = False
        # memory that weights and optimiser take beyond the U-Net's is not there for feature maps
        self.UNet_vram_target_GB: float = max(1.0, self.UNet_vram_target_GB - self._extra_parameter_bytes() / 1e9)

    def get_plans_for_configuration(self, spacing: Any, shape: Any, data: str, voxels: float, _: Any) -> dict[str, Any]:
        """Plan as nnU-Net does, with the network of the preset in place of its U-Net."""
        self._keep_ratio = self.planned_ratio(data)
        # nnU-Net's cache is for all configurations, and memory depends on the keep ratio
        cache = self._estimates.setdefault(str(self._keep_ratio), {})
        plans = super().get_plans_for_configuration(spacing, shape, data, voxels, cache)
        # several drafts are made of each configuration
        if len(spacing) == _VOLUME and min(plans["patch_size"]) == 1 and not self._said_one_slice:
            self._said_one_slice = True
            crop = "x".join(map(str, plans["patch_size"]))
            print(f"Crops of 3-D configurations are one slice ({crop}): 2d does the same at a lower price")  # noqa: T201
        return {**plans, "architecture": architecture_of(*self._network(plans))}

    def static_estimate_VRAM_usage(  # nnU-Net's is static; this one depends on the preset  # noqa: N802
        self,
        patch_size: Sequence[int],
        input_channels: int,
        output_channels: int,
        arch_class_name: str,
        arch_kwargs: dict[str, Any],
        arch_kwargs_req_import: Sequence[str],
    ) -> float:
        """Memory of one sample in nnU-Net's unit; infinite where tokens would be too many or larger than 8 voxels.

        Raises:
            ValueError: if no crop is small enough for the memory, so that nothing is left of it, or images are
                too small for tokens.
        """
        if min(patch_size) < 1:
            msg = (
                f"no crop of this data is small enough for {type(self).__name__} in {self.UNet_vram_target_GB:.1f} GB "
                "(-gpu_memory_target, without what the weights take): allow more, take a smaller size, such as "
                "nnUNetPlannerSCD_small, or plan 2d alone for nnU-Net's default trainer"
            )
            raise ValueError(msg)
        if not any(max(step) > 1 for step in arch_kwargs["strides"]):
            msg = (
                f"images of {'x'.join(map(str, patch_size))} voxels are too small for tokens of several voxels: train "
                "them with nnU-Net's default planner and trainer, or at a finer -overwrite_target_spacing"
            )
            raise ValueError(msg)
        try:
            kind, arguments = self._network({"patch_size": patch_size, "architecture": {"arch_kwargs": arch_kwargs}})
        except ValueError:
            # nnU-Net goes on with a smaller crop
            return float("inf")
        if max(arguments["patch_size"]) > PATCH_TARGET:
            return float("inf")
        # counted with all blocks, none dropped at random
        settings = {**arguments, "drop_path_rate": 0.0, "in_channels": input_channels, "out_channels": output_channels}
        image_shape = (1, input_channels, *arguments["img_size"])
        return saved_bytes(lambda: NETWORKS[kind](**settings), image_shape) / BYTES_PER_UNIT

    def generate_data_identifier(self, configuration_name: str) -> str:
        """Share preprocessed data with nnU-Net's default planner where they are the same, as its ResEnc planners do."""
        as_usual = self.preprocessor_name == "DefaultPreprocessor" and not self.suppress_transpose
        if configuration_name in ("2d", "3d_fullres") and self.overwrite_target_spacing is None and as_usual:
            return f"nnUNetPlans_{configuration_name}"
        return super().generate_data_identifier(configuration_name)

    def _network(self, configuration: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        return network_arguments(self.scd_size, **token_geometry(configuration), keep_ratio=self._keep_ratio)

    def _extra_parameter_bytes(self) -> float:
        strides = {"strides": [[2] * 3] * 4}
        kind, arguments = self._network({"patch_size": [96] * 3, "architecture": {"arch_kwargs": strides}})
        with torch.device("meta"):
            network = NETWORKS[kind](in_channels=1, out_channels=2, **arguments)
        return max(0.0, parameters(network) * BYTES_PER_PARAMETER - UNET_PARAMETER_BYTES)


def _planner(preset: str) -> type[nnUNetPlannerSCD]:
    """A preset's planner, named like its trainer: nnUNetTrainerSCD_fast has the preset base-fast."""
    name = "nnUNetPlannerSCD_" + preset.removeprefix("base-").replace("-", "_")
    if preset.startswith("primus"):
        name = f"nnUNetPlannerSCDPrimus{preset.removeprefix('primus').replace('-', '').upper()}"
    settings = {"__module__": __name__, "__doc__": f"Plans for the preset {preset}.", "scd_size": preset}
    return type(name, (nnUNetPlannerSCD,), settings)


_OTHERS = [_planner(preset) for preset in PRESETS if preset != "base"]
PLANNERS = {"nnUNetPlannerSCD": nnUNetPlannerSCD, **{planner.__name__: planner for planner in _OTHERS}}
globals().update(PLANNERS)

__all__ = ["PLANNERS", *PLANNERS]
