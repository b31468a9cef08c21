"""Arguments that all networks of SCD have: what is refused, which blocks prune, which completion follows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from numbers import Integral, Real
from typing import Any

from torch import Tensor

from scd_plugin.blocks import MaskTokenCompletion, MultiLayerTokenAssembly
from scd_plugin.ops.grid import token_grid

__all__ = ["build_completion", "check_counts", "check_grid", "check_image", "check_option", "check_rates"]
__all__ += ["pruning_plan", "stage_ratios"]


def pruning_plan(
    prune_after: Sequence[int], keep_ratio: Sequence[float] | float, num_layers: int
) -> list[tuple[int, float]]:
    """Block and share kept of every stage that prunes at all; arguments as in `SCDUNETR`.

    Raises:
        ValueError: if blocks or shares are out of range, or differ in number.
    """
    blocks = list(prune_after) if isinstance(prune_after, Iterable) else [None]
    legal = all(isinstance(block, Integral) and 1 <= block <= num_layers for block in blocks)
    if not legal or sorted(set(blocks)) != blocks:
        msg = (
            f"prune_after must be ascending 1-based block numbers in [1, {num_layers}] (num_layers={num_layers}), "
            f"(1,) for a single one; got {prune_after}"
        )
        raise ValueError(msg)
    return [(int(block), ratio) for block, ratio in zip(blocks, stage_ratios(keep_ratio, blocks)) if ratio < 1]


def stage_ratios(keep_ratio: Sequence[float] | float, prune_after: Sequence[int]) -> list[float]:
    """Share kept of every stage; arguments as in `SCDUNETR`.

    Raises:
        ValueError: if shares are out of range, or as many as neither one nor the stages.
    """
    # an array of no axis is a number, and can't be gone through
    if getattr(keep_ratio, "ndim", None) == 0:
        keep_ratio = keep_ratio.item()  # type: ignore[union-attr]
    ratios = list(keep_ratio) if isinstance(keep_ratio, Iterable) else [keep_ratio]
    # True counts as 1 in Python, and would build a dense network
    if any(not isinstance(ratio, Real) or isinstance(ratio, bool) or not 0 < ratio <= 1 for ratio in ratios):
        msg = (
            "keep_ratio must be in (0, 1], the share of tokens kept at each stage (1: no pruning), one number or one "
            f"for each stage; got {keep_ratio!r}"
        )
        raise ValueError(msg)
    if not isinstance(keep_ratio, Iterable):
        ratios = ratios * len(prune_after)
    if len(ratios) != len(prune_after):
        stages = tuple(prune_after)
        msg = f"keep_ratio must be one number, or one for each stage of prune_after {stages}; got {keep_ratio}"
        raise ValueError(msg)
    return [float(ratio) for ratio in ratios]


def build_completion(
    kind: str,
    grid_size: Sequence[int],
    num_sets: int,
    *,
    hidden_size: int,
    num_heads: int,
    completion_hidden_size: int | None,
    completion_num_layers: int,
    completion_num_heads: int | None,
    qkv_bias: bool,
    init_values: float | None = None,
) -> MultiLayerTokenAssembly | MaskTokenCompletion | None:
    """Build MTA, its cheaper form or its control; None where there is nothing to complete.

    Args: as in `SCDUNETR`, and `kind`, which is its `completion` or `"restore"` for none; `num_sets`, one per pruning
    stage and the survivors; `init_values` as in MTA.

    Raises:
        ValueError: if the width fits neither heads nor axes.
    """
    if num_sets == 1 or kind == "restore":
        return None
    width_name = "hidden_size" if completion_hidden_size is None else "completion_hidden_size"
    heads_name = "num_heads" if completion_num_heads is None else "completion_num_heads"
    width = hidden_size if completion_hidden_size is None else completion_hidden_size
    heads = num_heads if completion_num_heads is None else completion_num_heads
    least = 2 * len(grid_size)
    if width % heads != 0:
        fitting = -(-max(width, least) // heads) * heads
        msg = (
            f"{width_name} must be divisible by {heads_name}, the heads of the completion; got {width} and {heads}. "
            f"The next completion_hidden_size that fits is {fitting}"
        )
        raise ValueError(msg)
    if width < least:
        msg = (
            f"{width_name} must be at least {least} for sine-cosine positions on {len(grid_size)} axes of the "
            f"completion; got {width}"
        )
        raise ValueError(msg)
    sizes: dict[str, Any] = {
        "hidden_size": hidden_size,
        "completion_hidden_size": width,
        "num_layers": completion_num_layers,
        "num_heads": heads,
        "qkv_bias": qkv_bias,
        "init_values": init_values,
    }
    if kind == "mask_token":
        return MaskTokenCompletion(grid_size, **sizes)
    return MultiLayerTokenAssembly(grid_size, num_sets, attend_kept=kind == "assembly_to_kept", **sizes)


def check_image(image: Tensor, shape: list[int]) -> None:
    """Raise ValueError for an image that is not (B, *shape): it has other channels or another size."""
    if list(image.shape[1:]) != shape:
        msg = (
            f"image must have shape (B, {', '.join([str(n) for n in shape])}): in_channels, then "
            f"img_size; got {list(image.shape)}. Build the network with that img_size, or crop or slide a window"
        )
        raise ValueError(msg)


def check_counts(**counts: int | None) -> None:
    """Raise ValueError for what is no int of at least 1; None, where it stands for a default, passes."""
    for name, count in counts.items():
        if count is not None and (not isinstance(count, Integral) or count < 1):
            msg = f"{name} must be an int of at least 1; got {count!r}"
            raise ValueError(msg)


def check_option(name: str, value: Any, allowed: Sequence[Any]) -> None:
    """Raise ValueError for a choice that is not one of those allowed."""
    if value not in allowed:
        msg = f"{name} must be one of {', '.join(map(str, allowed))}; got {value!r}"
        raise ValueError(msg)


def check_rates(**rates: float) -> None:
    """Raise ValueError for dropout and stochastic depth outside [0, 1), which would drop everything."""
    for name, rate in rates.items():
        if not isinstance(rate, Real) or not 0 <= rate < 1:
            msg = f"{name} must be in [0, 1); got {rate!r}"
            raise ValueError(msg)


def check_grid(img_size: Sequence[int], patch_size: Sequence[int]) -> tuple[int, ...]:
    """Count the tokens per axis.

    Raises:
        ValueError: as `token_grid`, or if it is a single one, which leaves nothing to prune and nothing to norm.
    """
    grid = token_grid(img_size, patch_size)
    if prod(grid) == 1:
        msg = (
            f"img_size must hold at least 2 tokens; got {img_size} with patch_size {patch_size}, which is one token. "
            "Take a larger image or a smaller token patch"
        )
        raise ValueError(msg)
    return grid
