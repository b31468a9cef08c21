from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from scd_plugin.ops.convolution import channels_last, joined_convolution, pointwise_convolution, takes_short_ways

CONVOLUTIONS = {2: F.conv2d, 3: F.conv3d}


class TestChannelsLast:
    def test_values_stay_and_channels_lie_side_by_side(self) -> None:
        x = torch.randn(2, 3, 4, 5, 6)
        moved = channels_last(x)
        assert torch.equal(moved, x)
        assert moved.stride(1) == 1

    def test_two_axes(self) -> None:
        assert channels_last(torch.randn(2, 3, 4, 5)).is_contiguous(memory_format=torch.channels_last)


def test_short_ways_are_for_cpus() -> None:
    assert takes_short_ways(torch.zeros(1))
    assert not takes_short_ways(torch.zeros(1, device="meta"))


class TestJoinedConvolution:
    @pytest.mark.parametrize("spatial_dims", [2, 3])
    @pytest.mark.parametrize("with_bias", [True, False])
    def test_equals_the_convolution_of_the_concatenated(self, spatial_dims: int, with_bias: bool) -> None:
        size = (5, 6, 7)[:spatial_dims]
        inputs = [torch.randn(2, channels, *size, dtype=torch.float64) for channels in (4, 1, 2)]
        weight = torch.randn(3, 7, *[3] * spatial_dims, dtype=torch.float64)
        bias = torch.randn(3, dtype=torch.float64) if with_bias else None
        expected = CONVOLUTIONS[spatial_dims](torch.cat(inputs, dim=1), weight, bias, padding=1)
        torch.testing.assert_close(joined_convolution(inputs, weight, bias, [1] * spatial_dims), expected)

    def test_gradients_too(self) -> None:
        inputs = [torch.randn(1, channels, 4, 5, 6, dtype=torch.float64, requires_grad=True) for channels in (4, 1)]
        weight = torch.randn(3, 5, 3, 3, 3, dtype=torch.float64, requires_grad=True)
        bias = torch.randn(3, dtype=torch.float64, requires_grad=True)
        leaves = [*inputs, weight, bias]
        expected = torch.autograd.grad(F.conv3d(torch.cat(inputs, 1), weight, bias, padding=1).square().sum(), leaves)
        found = torch.autograd.grad(joined_convolution(inputs, weight, bias, [1, 1, 1]).square().sum(), leaves)
        for one, other in zip(found, expected):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("size", [(5, 6), (3, 4, 5)], ids=str)
@pytest.mark.parametrize("number", [1, 3])
def test_pointwise_convolution_equals_the_convolution_of_the_sum(
    size: tuple[int, ...], with_bias: bool, number: int
) -> None:
    inputs = [torch.randn(2, 4, *size, dtype=torch.float64) for _ in range(number)]
    inputs[-1] = channels_last(inputs[-1])
    weight = torch.randn(3, 4, *[1] * len(size), dtype=torch.float64)
    bias = torch.randn(3, dtype=torch.float64) if with_bias else None
    expected = CONVOLUTIONS[len(size)](sum(inputs), weight, bias)
    found = pointwise_convolution(inputs, weight, bias)
    torch.testing.assert_close(found, expected)
    assert found.is_contiguous()
