from __future__ import annotations

from math import prod
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scd_plugin.blocks import SubvoxelDecoder

GEOMETRIES = [
    ((4, 4, 4), [(2, 2, 2)] * 3),
    ((5, 7, 5), [(2, 2, 2)] * 3),
    ((3, 4, 5), [(2, 2, 2)] * 2),
    ((2, 3, 2), [(2, 2, 2)] * 4),
    ((5, 4, 3), [(1, 2, 2), (2, 2, 2), (2, 2, 2)]),
    ((7, 4, 3), [(1, 2, 2)] * 3),
    ((2, 2, 2), [(4, 4, 4)]),
    ((1, 2), [(2, 2)] * 3),
    ((1, 3), [(3, 2), (2, 2)]),
]


def size_of(grid: tuple[int, ...], strides: list[tuple[int, ...]]) -> list[int]:
    return [edge * prod(stride[axis] for stride in strides) for axis, edge in enumerate(grid)]


def build(strides: list[tuple[int, ...]], **changes: Any) -> SubvoxelDecoder:
    arguments = {"in_channels": 2, "out_channels": 3, "hidden_size": 24, "feature_size": 4, **changes}
    return SubvoxelDecoder(strides=strides, **arguments)


@pytest.mark.parametrize(("grid", "strides"), GEOMETRIES, ids=str)
def test_any_grid_and_strides(grid: tuple[int, ...], strides: list[tuple[int, ...]]) -> None:
    size = size_of(grid, strides)
    logits = build(strides)(torch.randn(2, 2, *size), [torch.randn(2, 24, *grid)])
    assert logits.shape == (2, 3, *size)
    assert logits.isfinite().all()


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize(("grid", "strides"), GEOMETRIES, ids=str)
def test_every_voxel_keeps_its_place(grid: tuple[int, ...], strides: list[tuple[int, ...]], channels: int) -> None:
    """With weights that pass the folded image on, the logits are the image, bit by bit."""
    folded = channels * prod(strides[0])
    decoder = build(strides, in_channels=channels, out_channels=channels, feature_size=folded, norm_name="")
    passing: Any = decoder.blocks[-1]
    centre = tuple(1 for _ in grid)
    with torch.no_grad():
        for weights in passing.parameters():
            weights.zero_()
        first, second, last = passing.conv1.conv.weight, passing.conv2.conv.weight, decoder.out.conv.conv
        last.weight.zero_()
        last.bias.zero_()
        for channel in range(folded):
            # the branch's channels come before those of the image
            first[(channel, first.shape[1] - folded + channel, *centre)] = 1
            second[(channel, channel, *centre)] = 1
            last.weight[channel, channel] = 1
    # the activation lets positive values through
    image = torch.rand(2, channels, *size_of(grid, strides)) + 0.1
    assert torch.equal(decoder(image, [torch.randn(2, 24, *grid)]), image)


def test_channels_of_the_sketch() -> None:
    """Eight for each class and image channel; no convolution halves its channels, and all are multiples of 8."""
    decoder = SubvoxelDecoder(1, 14, hidden_size=768, strides=[(2, 2, 2)] * 3)
    seen: list[tuple[int, int, int]] = []
    for module in decoder.modules():
        if isinstance(module, nn.Conv3d):
            module.register_forward_hook(
                lambda conv, _, output: seen.append((conv.in_channels, conv.out_channels, output.shape[-1]))
            )
    with torch.no_grad():
        decoder(torch.randn(1, 1, 32, 32, 32), [torch.randn(1, 768, 4, 4, 4)])
    # the third is the shortcut of the residual block
    assert seen == [(64, 64, 8), (64, 64, 8), (40, 64, 16), (64, 64, 16), (40, 64, 16)]
    assert decoder.out.conv.conv.weight.shape == (8 * 14, 64, 1, 1, 1)


@pytest.mark.parametrize(("grid", "strides"), GEOMETRIES, ids=str)
def test_nothing_convolves_at_full_resolution(grid: tuple[int, ...], strides: list[tuple[int, ...]]) -> None:
    decoder, size = build(strides), size_of(grid, strides)
    sizes: list[list[int]] = []
    for module in decoder.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
            module.register_forward_hook(lambda _module, _inputs, output: sizes.append(list(output.shape[2:])))
    decoder(torch.randn(2, 2, *size), [torch.randn(2, 24, *grid)])
    level_1 = [edge // stride for edge, stride in zip(size, strides[0])]
    assert sizes != []
    assert all(out <= level for found in sizes for out, level in zip(found, level_1))


def test_voxels_of_a_cell_are_told_apart() -> None:
    decoder = build([(2, 2, 2)] * 2).eval()
    image, tokens = torch.randn(1, 2, 16, 16, 16, requires_grad=True), torch.randn(1, 24, 4, 4, 4)
    logits = decoder(image, [tokens])
    # tokens reach a cell as one; its voxels differ by the head's weights and by the image
    assert not torch.allclose(logits[..., ::2], logits[..., 1::2])
    (one,) = torch.autograd.grad(logits[0, 0, 7, 7, 7], image, retain_graph=True)
    (next_to_it,) = torch.autograd.grad(logits[0, 0, 7, 7, 6], image)
    assert not torch.allclose(one, next_to_it)


def test_a_voxel_sees_across_cells() -> None:
    decoder = build([(2, 2, 2)] * 2, norm_name="batch").eval()
    image = torch.randn(1, 2, 32, 32, 32, requires_grad=True)
    decoder(image, [torch.zeros(1, 24, 8, 8, 8)])[0, :, 15, 15, 15].sum().backward()
    assert image.grad is not None
    places = image.grad[0].abs().sum(0).nonzero()
    # two convolutions of 3 cells: its own cell, of voxels 14 and 15, and two on both sides
    assert (places.min(), places.max()) == (10, 19)


@pytest.mark.parametrize("deep_supervision", [False, True])
@pytest.mark.parametrize("res_block", [False, True])
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_every_voxel_token_and_weight_counts(spatial_dims: int, res_block: bool, deep_supervision: bool) -> None:
    strides = [(2,) * spatial_dims] * 3
    decoder = build(strides, res_block=res_block, deep_supervision=deep_supervision)
    image = torch.randn(2, 2, *(32,) * spatial_dims, requires_grad=True)
    tokens = torch.randn(2, 24, *(4,) * spatial_dims, requires_grad=True)
    outputs = decoder(image, [tokens])
    loss = sum(output.square().sum() for output in (outputs if deep_supervision else [outputs]))
    assert isinstance(loss, Tensor)
    loss.backward()
    assert image.grad is not None
    assert tokens.grad is not None
    assert (image.grad != 0).all()
    assert (tokens.grad != 0).all()
    assert [name for name, weight in decoder.named_parameters() if weight.grad is None or not weight.grad.any()] == []


def test_the_image_stays_half_under_autocast() -> None:
    decoder = build([(2, 2, 2)] * 2)
    joined: list[torch.dtype] = []
    decoder.blocks[-1].register_forward_pre_hook(lambda _module, inputs: joined.append(inputs[0].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        logits = decoder(torch.randn(1, 2, 16, 16, 16), [torch.randn(1, 24, 4, 4, 4)])
    assert joined == [torch.bfloat16]
    assert logits.dtype == torch.bfloat16


class TestDeepSupervision:
    @pytest.mark.parametrize(
        ("strides", "sizes"),
        [
            ([(2, 2, 2)] * 3, [(32, 32, 32), (16, 16, 16), (8, 8, 8)]),
            ([(1, 2, 2), (2, 2, 2), (2, 2, 2)], [(16, 32, 32), (16, 16, 16), (8, 8, 8)]),
            ([(2, 2, 2)] * 2, [(16, 16, 16), (8, 8, 8)]),
            ([(2, 2)] * 4, [(64, 64), (32, 32), (16, 16), (8, 8)]),
            ([(2, 2, 2)], [(8, 8, 8)]),
        ],
        ids=str,
    )
    def test_an_output_for_every_level_above_the_tokens(
        self, strides: list[tuple[int, ...]], sizes: list[tuple[int, ...]]
    ) -> None:
        decoder, grid = build(strides, deep_supervision=True), (4,) * len(strides[0])
        inputs = torch.randn(1, 2, *sizes[0]), [torch.randn(1, 24, *grid)]
        outputs = decoder(*inputs)
        assert [tuple(output.shape[1:]) for output in outputs] == [(3, *size) for size in sizes]
        decoder.deep_supervision = False
        assert torch.equal(decoder(*inputs), outputs[0])

    def test_heads_are_dropped_where_there_are_none(self) -> None:
        trained = build([(2, 2, 2)] * 3, deep_supervision=True).state_dict()
        plain = build([(2, 2, 2)] * 3)
        plain.load_state_dict(trained)
        assert torch.equal(plain.out.conv.conv.weight, trained["out.conv.conv.weight"])

    def test_other_unknown_keys_still_fail(self) -> None:
        decoder = build([(2, 2, 2)] * 2)
        with pytest.raises(RuntimeError, match="bogus"):
            decoder.load_state_dict({**decoder.state_dict(), "bogus": torch.zeros(1)})


class TestRefused:
    @pytest.mark.parametrize("stride", [(1, 1, 1), (1, 1)])
    def test_a_first_step_that_folds_nothing(self, stride: tuple[int, ...]) -> None:
        with pytest.raises(
            ValueError, match=r"first of strides must be 2 or more on some axis .*; got \(1, 1.*Leave out"
        ):
            build([stride, (2,) * len(stride)])

    def test_an_image_that_does_not_fold(self) -> None:
        with pytest.raises(ValueError, match=r"size \[16, 16, 15\] must be a multiple of factors \[2, 2, 2\]"):
            build([(2, 2, 2)] * 2)(torch.zeros(1, 2, 16, 16, 15), [torch.zeros(1, 24, 4, 4, 4)])
