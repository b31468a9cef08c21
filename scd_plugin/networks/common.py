"""What every SCD network does with its arguments: which blocks prune, which completion follows, which images fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from scd_plugin.blocks import MaskTokenCompletion, MultiLayerTokenAssembly
from scd_plugin.blocks.assembly import COMPLETION

__all__ = ["build_completion", "check_image", "check_rates", "pruning_plan"]


def pruning_plan(
    prune_after: Sequence[int], keep_ratio: Sequence[float] | float, num_layers: int
) -> list[tuple[int, float]]:
    """(block, share kept) of every stage that prunes at all.

    Args:
        prune_after: 1-based blocks after which tokens leave, ascending.
        keep_ratio: share of the tokens kept, in (0, 1]; one number or one per stage.
        num_layers: transformer blocks.

    Raises:
        ValueError: if blocks or shares are out of range, or differ in number.
    """
    blocks = list(prune_after)
    if any(not 1 <= block <= num_layers for block in blocks) or sorted(set(blocks)) != blocks:
        msg = (
            f"prune_after must be ascending 1-based block numbers in [1, {num_layers}] (num_layers={num_layers}); "
            f"got {tuple(blocks)}"
        )
        raise ValueError(msg)
    ratios = [float(ratio) for ratio in keep_ratio] if isinstance(keep_ratio, Sequence) else [float(keep_ratio)]
    if any(not 0 < ratio <= 1 for ratio in ratios):
        msg = f"keep_ratio must be in (0, 1], the share of tokens kept at each stage (1: no pruning); got {keep_ratio}"
        raise ValueError(msg)
    if not isinstance(keep_ratio, Sequence):
        ratios = ratios * len(blocks)
    if len(ratios) != len(blocks):
        msg = f"keep_ratio must be one number, or one for each stage of prune_after {tuple(blocks)}; got {keep_ratio}"
        raise ValueError(msg)
    return [(block, ratio) for block, ratio in zip(blocks, ratios) if ratio < 1]


def build_completion(
    kind: str,
    grid_size: Sequence[int],
    num_sets: int,
    *,
    hidden_size: int,
    completion_hidden_size: int,
    num_layers: int,
    num_heads: int,
    qkv_bias: bool,
) -> MultiLayerTokenAssembly | MaskTokenCompletion:
    """MTA, its cheaper form, or its control.

    Args:
        kind: one of `COMPLETION`.
        grid_size: tokens per axis.
        num_sets: token sets: one per pruning stage, and the survivors.
        hidden_size: D.
        completion_hidden_size: D_c.
        num_layers: transformer blocks.
        num_heads: attention heads.
        qkv_bias: bias in the query, key and value projections.

    Raises:
        ValueError: if there is no such kind, or the width fits neither heads nor axes.
    """
    if kind not in COMPLETION:
        msg = f"completion must be one of {', '.join(COMPLETION)}; got {kind!r}"
        raise ValueError(msg)
    if completion_hidden_size % num_heads != 0:
        msg = (
            f"completion_hidden_size must be divisible by completion_num_heads; "
            f"got {completion_hidden_size} and {num_heads}"
        )
        raise ValueError(msg)
    if completion_hidden_size < 2 * len(grid_size):
        msg = (
            f"completion_hidden_size must be at least {2 * len(grid_size)} for sine-cosine positions on "
            f"{len(grid_size)} axes; got {completion_hidden_size}"
        )
        raise ValueError(msg)
    sizes: dict[str, Any] = {
        "hidden_size": hidden_size,
        "completion_hidden_size": completion_hidden_size,
        "num_layers": num_layers,
        "num_heads": num_heads,
        "qkv_bias": qkv_bias,
    }
    if kind == "mask_token":
        return MaskTokenCompletion(grid_size, **sizes)
    return MultiLayerTokenAssembly(grid_size, num_sets, attend_kept=kind == "assembly_to_kept", **sizes)


def check_image(image: Tensor, shape: list[int]) -> None:
    """Refuse an image that is not (B, *shape).

    Raises:
        ValueError: if it has other channels or another size.
    """
    if list(image.shape[1:]) != shape:
        msg = (
            f"image must have shape (B, {', '.join([str(n) for n in shape])}): in_channels, then "
            f"img_size; got {list(image.shape)}. Build the network with that img_size, or crop or slide a window"
        )
        raise ValueError(msg)


def check_rates(**rates: float) -> None:
    """Refuse dropout and stochastic depth that would drop everything.

    Raises:
        ValueError: if one of them is outside [0, 1).
    """
    for name, rate in rates.items():
        if not 0 <= rate < 1:
            msg = f"{name} must be in [0, 1); got {rate}"
            raise ValueError(msg)
