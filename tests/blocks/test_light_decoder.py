import pytest
import torch
from monai.networks.blocks import UnetOutBlock
from torch import nn

from scd_plugin.blocks import LightDecoder


@pytest.mark.parametrize(
    ("grid", "strides"),
    [
        ((4, 4, 4), [(2, 2, 2)] * 3),
        ((5, 7, 5), [(2, 2, 2)] * 3),
        ((2, 3, 2), [(2, 2, 2)] * 4),
        ((5, 4, 3), [(1, 2, 2), (2, 2, 2), (2, 2, 2)]),
        ((2, 2, 2), [(4, 4, 4)]),
        ((1, 2), [(2, 2)] * 3),
        ((1, 3), [(3, 2), (2, 2)]),
    ],
    ids=str,
)
def test_any_grid_and_strides(grid: tuple[int, ...], strides: list[tuple[int, ...]]) -> None:
    decoder = LightDecoder(1, 2, hidden_size=24, strides=strides, feature_size=4)
    size = list(grid)
    for step in strides:
        size = [edge * stride for edge, stride in zip(size, step)]
    tokens, image = torch.randn(1, 24, *grid), torch.randn(1, 1, *size)
    assert decoder(image, [tokens]).shape == (1, 2, *size)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_one_convolution_at_full_resolution_sees_features_and_image(spatial_dims: int) -> None:
    decoder = LightDecoder(2, 3, hidden_size=24, strides=[(2,) * spatial_dims] * 2, feature_size=8)
    unfolded: list[torch.Tensor] = []
    decoder.unfold.register_forward_hook(lambda _module, _inputs, output: unfolded.append(output))
    image = torch.randn(2, 2, *(16,) * spatial_dims)
    logits = decoder(image, [torch.randn(2, 24, *(4,) * spatial_dims)])
    # the modules as MONAI would run them
    seen = decoder.boundaries(torch.cat((unfolded[0], image), dim=1))
    torch.testing.assert_close(logits, UnetOutBlock.forward(decoder.out, seen + unfolded[0]))


def test_neighbouring_cells_meet_at_full_resolution() -> None:
    decoder = LightDecoder(1, 2, hidden_size=24, strides=[(2, 2, 2)] * 2, feature_size=8, norm_name="batch").eval()
    image = torch.randn(1, 1, 16, 16, 16, requires_grad=True)
    fine = decoder.boundaries(torch.cat((torch.zeros(1, 8, 16, 16, 16), image), dim=1))
    fine[0, :, 7, 7, 7].sum().backward()
    assert image.grad is not None
    assert image.grad[0, 0].nonzero().min() == 6
    assert image.grad[0, 0].nonzero().max() == 8


def test_the_head_sees_features_past_norm_and_activation() -> None:
    decoder = LightDecoder(1, 2, hidden_size=24, strides=[(2, 2, 2)] * 2, feature_size=8)
    for parameter in decoder.boundaries.parameters():
        nn.init.zeros_(parameter)
    unfolded: list[torch.Tensor] = []
    decoder.unfold.register_forward_hook(lambda _module, _inputs, output: unfolded.append(output))
    logits = decoder(torch.randn(1, 1, 16, 16, 16), [torch.randn(1, 24, 4, 4, 4)])
    torch.testing.assert_close(logits, UnetOutBlock.forward(decoder.out, unfolded[0]))


def test_every_voxel_and_every_token_counts() -> None:
    decoder = LightDecoder(1, 2, hidden_size=24, strides=[(2, 2, 2)] * 2, feature_size=8).eval()
    image = torch.randn(1, 1, 16, 16, 16, requires_grad=True)
    tokens = torch.randn(1, 24, 4, 4, 4, requires_grad=True)
    decoder(image, [tokens]).square().sum().backward()
    assert image.grad is not None
    assert tokens.grad is not None
    assert (image.grad != 0).all()
    assert (tokens.grad != 0).all()


class TestDeepSupervision:
    def build(self, deep_supervision: bool) -> LightDecoder:
        return LightDecoder(
            1, 2, hidden_size=24, strides=[(2, 2, 2)] * 3, feature_size=4, deep_supervision=deep_supervision
        )

    def test_an_output_for_every_level_above_the_tokens(self) -> None:
        decoder = self.build(deep_supervision=True)
        outputs = decoder(torch.randn(1, 1, 32, 32, 32), [torch.randn(1, 24, 4, 4, 4)])
        assert [tuple(output.shape[1:]) for output in outputs] == [(2, *(edge,) * 3) for edge in (32, 16, 8)]

    def test_heads_are_dropped_where_there_are_none(self) -> None:
        trained = self.build(deep_supervision=True).state_dict()
        plain = self.build(deep_supervision=False)
        plain.load_state_dict(trained)
        assert torch.equal(plain.out.conv.conv.weight, trained["out.conv.conv.weight"])
