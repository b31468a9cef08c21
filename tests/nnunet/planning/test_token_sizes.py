"""Plans of real data sets and planners: token sizes, token counts, and a network that takes the planned crop."""

from __future__ import annotations

from math import prod
from typing import Any

import pytest
import torch

from scd_plugin import SCDUNETR, SCDPrimus
from scd_plugin.measure.saved_memory import saved_bytes
from scd_plugin.networks.builder import network_arguments
from scd_plugin.nnunet.planning.token_sizes import MAX_TOKENS, MIN_TOKENS, token_depth, token_geometry


def plan(patch_size: list[int], *strides: list[int] | int) -> dict[str, Any]:
    first = [1] * len(patch_size)
    return {"patch_size": patch_size, "architecture": {"arch_kwargs": {"strides": [first, *strides]}}}


def arguments_of(configuration: dict[str, Any], preset: str = "base", **changes: Any) -> dict[str, Any]:
    return network_arguments(preset, **token_geometry(configuration), drop_path_rate=0.0, **changes)[1]


TWO, FLAT = [2, 2, 2], [1, 2, 2]

# name, configuration, token patch, token grid, batch, GB that a training step of the base size keeps for it.
# Batches are nnU-Net's for a U-Net on 8 GB, or 5 % of the data set where that is less.
PLANS = [
    ("hippocampus 3d", plan([40, 56, 40], TWO, TWO, TWO), (4, 4, 4), (10, 14, 10), 9, 4.45),
    ("hippocampus 2d", plan([56, 40], [2, 2], [2, 2], [2, 2]), (4, 4), (14, 10), 366, 16.1),
    ("synthetic demo 3d", plan([64, 64, 64], TWO, TWO, TWO, TWO), (8, 8, 8), (8, 8, 8), 2, 0.83),
    ("BraTS 3d", plan([128, 128, 128], TWO, TWO, TWO, TWO, TWO), (8, 8, 8), (16, 16, 16), 2, 6.62),
    ("liver 3d", plan([128, 128, 128], TWO, TWO, TWO, TWO, TWO), (8, 8, 8), (16, 16, 16), 2, 6.62),
    ("AMOS 3d", plan([64, 160, 192], FLAT, TWO, TWO, TWO, TWO), (4, 8, 8), (16, 20, 24), 2, 9.37),
    ("KiTS ResEnc-L 3d", plan([160, 224, 192], TWO, TWO, TWO, TWO, TWO), (16, 16, 16), (10, 14, 12), 2, 15.1),
    ("large 3d", plan([160, 160, 160], TWO, TWO, TWO, TWO, TWO), (8, 8, 8), (20, 20, 20), 2, 12.9),
    ("prostate 3d", plan([16, 320, 320], FLAT, FLAT, TWO, TWO, FLAT, FLAT), (4, 16, 16), (4, 20, 20), 2, 5.57),
    ("ACDC 3d", plan([14, 256, 224], FLAT, FLAT, TWO, FLAT, FLAT), (2, 8, 8), (7, 32, 28), 5, 14.5),
    ("lung 3d", plan([80, 192, 160], FLAT, TWO, TWO, TWO, TWO), (4, 8, 8), (20, 24, 20), 2, 11.7),
    ("colon 3d", plan([56, 192, 160], FLAT, TWO, TWO, TWO, FLAT), (4, 8, 8), (14, 24, 20), 2, 8.2),
    ("hepatic vessel 3d", plan([64, 192, 192], FLAT, TWO, TWO, TWO, TWO), (4, 8, 8), (16, 24, 24), 2, 11.2),
    ("low resolution 3d", plan([96, 96, 96], TWO, TWO, TWO, TWO, [1, 2, 2]), (8, 8, 8), (12, 12, 12), 6, 8.38),
    ("small 2d", plan([40, 56], [2, 2], [2, 2], [2, 2]), (4, 4), (10, 14), 366, 16.1),
    ("ACDC 2d", plan([256, 224], *[[2, 2]] * 5), (8, 8), (32, 28), 57, 19.4),
    ("large 2d", plan([512, 512], *[[2, 2]] * 7), (8, 8), (64, 64), 12, 18.7),
    ("very large 2d", plan([1024, 1024], *[[2, 2]] * 8), (16, 16), (64, 64), 3, 8.1),
    ("strides as numbers", plan([96, 96, 96], 2, 2, 2, 2), (8, 8, 8), (12, 12, 12), 6, 8.38),
    ("strides of 3", plan([54, 81], [3, 3], [3, 3]), (3, 3), (18, 27), 32, 4.68),
    ("one pooling step", plan([24, 24, 24], TWO), (2, 2, 2), (12, 12, 12), 16, 8.33),
]


IDS = [row[0] for row in PLANS]


@pytest.mark.parametrize(("configuration", "patch", "grid"), [row[1:4] for row in PLANS], ids=IDS)
def test_tokens(configuration: dict[str, Any], patch: tuple[int, ...], grid: tuple[int, ...]) -> None:
    arguments = arguments_of(configuration)
    assert arguments["patch_size"] == patch
    assert tuple(size // edge for size, edge in zip(arguments["img_size"], patch)) == grid
    assert prod(grid) <= MAX_TOKENS
    assert arguments["hidden_size"] == 768
    with torch.device("meta"):
        net = SCDUNETR(in_channels=1, out_channels=2, **arguments)
    assert net.grid_size == list(grid)


@pytest.mark.parametrize(("configuration", "batch"), [(row[1], row[4]) for row in PLANS], ids=IDS)
def test_a_training_step(configuration: dict[str, Any], batch: int) -> None:
    arguments = arguments_of(configuration, "tiny")
    arguments.update(hidden_size=24, mlp_dim=24, num_heads=2, num_layers=3, prune_after=(1, 2), feature_size=1)
    # a third of the tokens on each axis, and three samples, are enough to see that sizes fit
    arguments["img_size"] = tuple(
        max(edge, size // edge // 3 * edge) for size, edge in zip(arguments["img_size"], arguments["patch_size"])
    )
    net = SCDUNETR(in_channels=1, out_channels=2, **arguments)
    samples = min(batch, 3)
    logits = net(torch.zeros(samples, 1, *arguments["img_size"]))
    assert logits.shape == (samples, 2, *arguments["img_size"])
    logits.square().mean().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


@pytest.mark.parametrize(("configuration", "batch", "expected"), [(row[1], row[4], row[5]) for row in PLANS], ids=IDS)
def test_memory_of_a_batch(configuration: dict[str, Any], batch: int, expected: float) -> None:
    arguments = arguments_of(configuration)
    shape = (batch, 1, *arguments["img_size"])
    sparse, dense = (
        saved_bytes(lambda ratio=ratio: SCDUNETR(1, 3, **{**arguments, "keep_ratio": ratio}), shape) / 1e9
        for ratio in (0.25, 1)
    )
    assert sparse == pytest.approx(expected, rel=0.05)
    # with 2 GB of weights, gradients and moments it fits 24 GB
    assert sparse < 22
    # with a few tokens score predictors and MTA take as much as pruning saves
    tokens = prod(size // edge for size, edge in zip(arguments["img_size"], arguments["patch_size"]))
    assert sparse < dense * (1 if tokens >= MIN_TOKENS else 1.03)


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("configuration", [row[1] for row in PLANS], ids=IDS)
def test_primus_has_the_same_tokens(configuration: dict[str, Any], version: int) -> None:
    arguments = arguments_of(configuration, f"primus{'' if version == 1 else f'v{version}'}-s")
    if 3 in arguments["patch_size"]:
        with pytest.raises(ValueError, match=r"patch_size must be a power of two on each axis"):
            SCDPrimus(1, 2, **arguments)
        return
    with torch.device("meta"):
        net = SCDPrimus(1, 2, **arguments)
        assert net(torch.empty(1, 1, *arguments["img_size"])).shape == (1, 2, *arguments["img_size"])
    assert net.token_size() == list(arguments_of(configuration)["patch_size"])


def test_token_edge_of_stock_primus() -> None:
    geometry = token_geometry(plan([40, 56, 40], TWO, TWO, TWO), patch_size=8)
    assert geometry == {"img_size": (40, 56, 40), "patch_size": (8, 8, 8)}


def test_decoder_steps_are_the_pooling_steps() -> None:
    arguments = token_geometry(plan([56, 192, 160], FLAT, TWO, TWO, FLAT, FLAT))
    assert arguments["strides"] == [(1, 2, 2), (2, 2, 2), (2, 2, 2)]
    assert arguments["pool_stride"] == (1, 2, 2)


def test_plans_from_before_nnunet_2_3() -> None:
    old = {"patch_size": [96, 96, 96], "pool_op_kernel_sizes": [[1, 1, 1], TWO, TWO, TWO, TWO]}
    assert token_geometry(old) == token_geometry(plan([96, 96, 96], TWO, TWO, TWO, TWO))


def test_token_depth_bounds() -> None:
    # 8 voxels: 13824 tokens, so one step deeper
    assert token_depth([192, 192, 192], [TWO] * 5) == 4
    # 8 voxels: 125 tokens, so one step less; but never edges below 4
    assert token_depth([40, 40, 40], [TWO] * 4) == 2
    assert token_depth([16, 16, 16], [TWO] * 4) == 2


class TestBadPlans:
    def test_crop_that_the_strides_do_not_divide(self) -> None:
        with pytest.raises(ValueError, match=r"axis 1 with 100 voxels is not a multiple of 8. Change it to 96 or 104"):
            token_geometry(plan([96, 100, 96], TWO, TWO, TWO))

    def test_no_strides(self) -> None:
        with pytest.raises(ValueError, match="plans hold no pooling strides"):
            token_geometry({"patch_size": [96, 96, 96]})

    def test_no_pooling(self) -> None:
        with pytest.raises(ValueError, match="plans pool nowhere"):
            token_geometry(plan([96, 96, 96]))

    def test_too_many_tokens_and_no_deeper_step(self) -> None:
        message = (
            r"patch_size \[192, 192, 192\] in the plans makes 884736 tokens of \(2, 2, 2\) .* than the 10240 allowed"
        )
        with pytest.raises(ValueError, match=message):
            token_geometry(plan([192, 192, 192], TWO))
