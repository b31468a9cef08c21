from __future__ import annotations

import torch
from torch import nn

from scd_plugin.measure.cost import multiply_accumulates, parameters


def test_a_convolution_and_a_matrix_product() -> None:
    network = nn.Sequential(nn.Conv3d(2, 5, 3, padding=1), nn.Flatten(1), nn.Linear(5 * 4**3, 7))
    image = torch.zeros(3, 2, 4, 4, 4)
    assert multiply_accumulates(network, image) == 3 * (4**3 * 5 * 2 * 27 + 5 * 4**3 * 7)
    assert parameters(network) == (2 * 27 + 1) * 5 + (5 * 4**3 + 1) * 7


def test_attention_counts_as_two_matrix_products() -> None:
    class Attention(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.scaled_dot_product_attention(x, x, x)

    assert multiply_accumulates(Attention(), torch.zeros(1, 2, 10, 8)) == 2 * 2 * 10 * 10 * 8


def test_network_stays_as_it_is() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    multiply_accumulates(network, torch.zeros(2, 4))
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
