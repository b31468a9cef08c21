"""The contract of every network of SCD, and a network composed of parts of one's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scd_plugin import SCDUNETR, ComposedNetwork, SCDNetwork, SCDPrimus
from scd_plugin.blocks import MultiLayerTokenAssembly
from scd_plugin.networks import SparseViT
from scd_plugin.networks.scd_unetr import DECODERS
from scd_plugin.networks.transfer import adapt_weights


class PatchDecoder(nn.Module):
    """Takes the tokens alone."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.ConvTranspose3d(48, 3, kernel_size=8, stride=8)

    def forward(self, image: Tensor, taps: list[Tensor]) -> Tensor:  # noqa: ARG002
        return self.out(taps[0])


def composed(edge: int = 32) -> ComposedNetwork:
    encoder = SparseViT(
        2, (edge,) * 3, (8, 8, 8), hidden_size=48, mlp_dim=96, num_layers=4, num_heads=4, prune_after=(1, 2, 3),
        keep_ratios=(0.5, 0.5, 0.5),
    )  # fmt: skip
    completion = MultiLayerTokenAssembly(encoder.grid_size, 4, hidden_size=48, completion_hidden_size=48, num_heads=4)
    return ComposedNetwork(encoder, completion, PatchDecoder(), out_channels=3)


@pytest.fixture(params=["SCDUNETR", "SCDPrimus", "composed"])
def network(
    request: pytest.FixtureRequest, small: Callable[..., SCDUNETR], small_primus: Callable[..., SCDPrimus]
) -> SCDNetwork:
    return {"SCDUNETR": small, "SCDPrimus": small_primus, "composed": composed}[request.param]().eval()


class TestContract:
    def test_attributes(self, network: SCDNetwork) -> None:
        assert (network.image_shape, network.grid_size, network.out_channels) == ([2, 32, 32, 32], [4, 4, 4], 3)
        assert network.token_size() == [8, 8, 8]
        assert network.positions in network.state_dict()
        assert [(stage.after_block, stage.keep_ratio) for stage in network.pruning_stages()] == [
            (1, 0.5), (2, 0.5), (3, 0.5)
        ]  # fmt: skip

    def test_arguments_build_it_again(self, network: SCDNetwork) -> None:
        again = type(network)(**network.arguments).eval()
        again.load_state_dict(network.state_dict())
        image = torch.randn(1, 2, 32, 32, 32)
        with torch.no_grad():
            assert torch.equal(again(image), network(image))

    def test_encode_and_exit_stages_agree(self, network: SCDNetwork) -> None:
        image = torch.randn(2, 2, 32, 32, 32)
        with torch.no_grad():
            encoded = network.encode(image)
        assert [tokens.shape[1] for tokens in encoded.token_sets] == [32, 16, 8, 8]
        stages = network.exit_stages(image)
        assert stages.shape == (2, 4, 4, 4)
        for number, places in enumerate(encoded.grid_idx):
            assert (stages.flatten(1).gather(1, places) == number).all()

    def test_other_images_are_refused(self, network: SCDNetwork) -> None:
        with pytest.raises(ValueError, match=r"image must have shape \(B, 2, 32, 32, 32\)"):
            network(torch.zeros(1, 2, 32, 32, 40))

    def test_weights_of_another_crop(self, network: SCDNetwork) -> None:
        weights = network.state_dict()
        positions = weights[network.positions]
        # two places an axis become four
        weights[network.positions] = torch.cat((positions[:, :-64], torch.randn(1, 8, 48)), dim=1)
        adapted, changes = adapt_weights(network, weights, old_grid=[2, 2, 2])
        assert changes == ["positions interpolated from (2, 2, 2) to (4, 4, 4) tokens"]
        network.load_state_dict(adapted)


def test_outputs_of_a_decoder_without_a_known_last_layer() -> None:
    net = composed()
    net.decoder.unfold = net.decoder.out
    del net.decoder.out
    with pytest.raises(
        ValueError, match="outputs of PatchDecoder can't be put into another order, since it has no layer"
    ):
        net.with_outputs(net.state_dict(), [2, 1, 0])


@pytest.mark.parametrize("kind", [*DECODERS, "SCDPrimus", "composed"])
def test_output_channels_in_another_order(
    kind: str, small: Callable[..., SCDUNETR], small_primus: Callable[..., SCDPrimus]
) -> None:
    others: dict[str, Callable[[], SCDNetwork]] = {"SCDPrimus": small_primus, "composed": composed}
    net = (others[kind]() if kind in others else small(decoder=kind)).eval()
    image = torch.randn(1, 2, 32, 32, 32)
    with torch.no_grad():
        before = net(image)
        net.load_state_dict(net.with_outputs(net.state_dict(), [2, 0, 1]))
        torch.testing.assert_close(net(image), before[:, [2, 0, 1]])


def test_outputs_at_lower_resolutions_go_along(small: Callable[..., SCDUNETR]) -> None:
    net = small(deep_supervision=True).train()
    image = torch.randn(1, 2, 32, 32, 32)
    chosen = small(deep_supervision=True, out_channels=2).train()
    chosen.load_state_dict(net.with_outputs(net.state_dict(), [2, 0]))
    for network in (net, chosen):
        network.set_keep_ratio(1.0)
    with torch.no_grad():
        for of_all, few in zip(net(image), chosen(image), strict=True):
            torch.testing.assert_close(few, of_all[:, [2, 0]])


def test_gradients_of_a_composed_network() -> None:
    net: Any = composed()
    net(torch.randn(1, 2, 32, 32, 32)).square().mean().backward()
    assert [name for name, parameter in net.named_parameters() if parameter.grad is None] == []
