"""Tokenizers and decoders: the library's own where a token is a cube, and of the same make where it is none."""

from __future__ import annotations

from functools import partial
from math import prod

import pytest
import torch
from dynamic_network_architectures.building_blocks.patch_encode_decode import (
    PatchDecode,
    PatchEmbed,
    PatchEmbed_deeper,
    PatchEmbedDeeperControlled,
)

from scd_plugin.blocks.primus import decode_octants, primus_decoder, primus_tokenizer

CLASSES = {1: PatchEmbed, 2: PatchEmbed_deeper, 3: PatchEmbedDeeperControlled}


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("patch_size", [(8, 8, 8), (4, 4, 4), (2, 4, 4), (1, 8, 8), (16, 4, 8)], ids=str)
def test_a_token_for_each_patch(version: int, patch_size: tuple[int, ...]) -> None:
    with torch.device("meta"):
        tokenizer = primus_tokenizer(version, 2, 24, patch_size)
        assert type(tokenizer) is CLASSES[version]
        image = torch.empty(1, 2, *[2 * edge for edge in patch_size])
        tokens = tokenizer(image)
        assert tokens.shape == (1, 24, 2, 2, 2)
        assert primus_decoder(24, 3, patch_size)(tokens).shape == (1, 3, *image.shape[2:])


@pytest.mark.parametrize("version", [2, 3])
def test_names_and_widths_are_the_librarys_where_axes_differ(version: int) -> None:
    with torch.device("meta"):
        cube, flat = (primus_tokenizer(version, 2, 24, patch) for patch in ((8, 8, 8), (4, 8, 8)))
    assert list(cube.state_dict()) == list(flat.state_dict())
    for name, value in cube.state_dict().items():
        assert flat.state_dict()[name].shape[:2] == value.shape[:2]


@pytest.mark.parametrize("version", [2, 3])
def test_slices_of_a_token_one_voxel_thick_stay_apart(version: int) -> None:
    tokenizer = primus_tokenizer(version, 1, 24, (1, 4, 4)).eval()
    kernels = {
        module.kernel_size[0]
        for module in tokenizer.modules()
        if isinstance(module, torch.nn.Conv3d) and max(module.kernel_size) == 3
    }
    assert kernels == {1}


@pytest.mark.parametrize("version", [1, 2, 3])
def test_every_parameter_gets_a_gradient(version: int) -> None:
    tokenizer = primus_tokenizer(version, 1, 24, (2, 4, 4))
    tokenizer(torch.randn(1, 1, 4, 8, 8)).square().sum().backward()
    assert [name for name, parameter in tokenizer.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize(
    ("patch_size", "places"),
    [
        ((8, 8, 8), ((2, 6), (2, 6), (2, 6))),
        ((4, 4, 4), ((1, 3), (1, 3), (1, 3))),
        ((2, 2, 2), ((0, 1), (0, 1), (0, 1))),
        ((1, 4, 4), ((0,), (1, 3), (1, 3))),
        ((2, 4, 8), ((1,), (2,), (2, 6))),
    ],
    ids=str,
)
def test_octants_are_voxels_of_the_decoded_image(
    patch_size: tuple[int, ...], places: tuple[tuple[int, ...], ...]
) -> None:
    decoder = primus_decoder(24, 3, patch_size)
    grid = (2, 3, 2)
    tokens = torch.randn(2, 12, 24)
    image = decoder(tokens.transpose(1, 2).unflatten(2, grid))
    of_tokens = image.unflatten(4, (2, -1)).unflatten(3, (3, -1)).unflatten(2, (2, -1)).movedim((3, 5, 7), (-3, -2, -1))
    depth, height, width = (torch.tensor(axis) for axis in places)
    voxels = of_tokens[..., depth[:, None, None], height[:, None], width].flatten(5).flatten(2, 4)
    # tokens of any places, here every other one
    torch.testing.assert_close(decode_octants(decoder, tokens[:, ::2]), voxels[:, :, ::2])


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="version must be one of 1, 2, 3, those of Primus; got 4"):
        primus_tokenizer(4, 1, 24, (8, 8, 8))
    with pytest.raises(ValueError, match=r"patch_size must be a power of two on each axis.*got \(6, 8, 8\)"):
        primus_tokenizer(1, 1, 24, (6, 8, 8))
    with pytest.raises(ValueError, match=r"patch_size must be a power of two on each axis.*got \(8, 8, 12\)"):
        primus_decoder(24, 2, (8, 8, 12))


@pytest.mark.parametrize(
    ("patch_size", "grid"),
    [((8, 8, 8), (2, 3, 4)), ((2, 2, 2), (2, 1, 3)), ((1, 4, 8), (3, 2, 2)), ((4, 16, 16), (2, 1, 2))],
    ids=str,
)
def test_decoder_is_the_librarys_by_another_way(patch_size: tuple[int, ...], grid: tuple[int, ...]) -> None:
    decoder = primus_decoder(24, 3, patch_size)
    tokens = torch.randn(2, prod(grid), 24)
    found = []
    for decode in (decoder, partial(PatchDecode.forward, decoder)):
        x = tokens.clone().requires_grad_()
        decoder.zero_grad()
        logits = decode(x.transpose(1, 2).unflatten(2, grid))
        logits.square().mean().backward()
        found.append([logits, x.grad, *[parameter.grad for parameter in decoder.parameters()]])
    assert found[0][0].shape == (2, 3, *[places * edge for places, edge in zip(grid, patch_size)])
    torch.testing.assert_close(*found, atol=5e-6, rtol=5e-6)
