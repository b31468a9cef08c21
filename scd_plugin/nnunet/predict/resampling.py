"""nnU-Net's PyTorch resampling, in place of its default, to return logits to the image's grid."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from nnunetv2.configuration import default_num_processes
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

__all__ = ["torch_resampling"]

_SAME_IN_BOTH = ("force_separate_z", "separate_z_anisotropy_threshold")


def torch_resampling(plans: dict[str, Any], configuration: str) -> dict[str, Any]:
    """Change plans so that PyTorch resamples the logits; images are resampled as the network learned to see them.

    Both interpolate linearly, and take the nearest slice across thick slices. nnU-Net's default calculates in float64
    and rounds the result to the logits' float16, PyTorch in float32. The plans given are not changed themselves.

    Raises:
        ValueError: if the configuration resamples logits in a way that PyTorch's function has no counterpart of.
    """
    resolved = PlansManager(plans).get_configuration(configuration).configuration
    if resolved["resampling_fn_probabilities"] != "resample_data_or_seg_to_shape":
        # no resampling, or PyTorch's already
        return plans
    arguments = resolved["resampling_fn_probabilities_kwargs"]
    # nnU-Net's function has an order of 3 where the plans name none
    order, order_z = arguments.get("order", 3), arguments.get("order_z", 0)
    if (order, order_z) != (1, 0):
        msg = (
            f"resampling torch interpolates linearly, and the plans of this model resample logits with order {order} "
            f"(order_z {order_z}); predict with resampling nnunet"
        )
        raise ValueError(msg)
    changed = deepcopy(plans)
    own = {"is_seg": False, "num_threads": default_num_processes, "force_separate_z": False}
    same = {name: arguments[name] for name in _SAME_IN_BOTH if name in arguments}
    changed["configurations"][configuration].update(
        resampling_fn_probabilities="resample_torch_fornnunet", resampling_fn_probabilities_kwargs={**own, **same}
    )
    return changed
