import math

import pytest
import torch

from scd_plugin.ops import interpolate_pos_embed, sincos_pos_embed


def test_channel_order_and_frequencies() -> None:
    # 12 channels on 3 axes: 2 frequencies an axis, 1 and 10000 ** -0.5 = 0.01
    embedding = sincos_pos_embed((2, 3, 4), 12).reshape(2, 3, 4, 12)
    h, w, d = 1, 2, 3
    expected = [f(place * omega) for place in (h, w, d) for f in (math.sin, math.cos) for omega in (1.0, 0.01)]
    assert embedding[h, w, d].tolist() == pytest.approx(expected, abs=1e-6)


def test_two_axes() -> None:
    embedding = sincos_pos_embed((1, 2), 4)
    assert embedding[1].tolist() == pytest.approx([0.0, 1.0, math.sin(1), math.cos(1)], abs=1e-6)


@pytest.mark.parametrize("channels", [50, 97, 6])
def test_leftover_channels_are_zero(channels: int) -> None:
    embedding = sincos_pos_embed((3, 3, 3), channels)
    filled = channels // 6 * 6
    assert embedding.shape == (27, channels)
    assert torch.count_nonzero(embedding[:, filled:]) == 0
    assert torch.equal(embedding[:, :filled], sincos_pos_embed((3, 3, 3), filled))


def test_too_narrow_is_refused() -> None:
    with pytest.raises(ValueError, match=r"channels must be at least 6 .* on 3 axes; got 5"):
        sincos_pos_embed((2, 2, 2), 5)


class TestInterpolation:
    def test_cls_stays_and_linear_positions_stay_linear(self) -> None:
        ramp = torch.arange(4.0).reshape(1, 4, 1, 1).expand(1, 4, 4, 4).reshape(1, 64, 1)
        moved = interpolate_pos_embed(torch.cat((torch.full((1, 1, 1), 9.0), ramp), dim=1), (4, 4, 4), (8, 4, 2))
        assert moved.shape == (1, 65, 1)
        assert moved[0, 0].item() == 9.0
        along = moved[0, 1:].reshape(8, 4, 2)[:, 0, 0]
        assert along.tolist() == pytest.approx([0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3], abs=1e-6)

    def test_same_grid_changes_nothing(self) -> None:
        positions = torch.randn(1, 13, 6)
        assert torch.equal(interpolate_pos_embed(positions, (3, 4), (3, 4)), positions)

    @pytest.mark.parametrize("num_prefix", [0, 3])
    def test_any_number_of_tokens_without_a_place(self, num_prefix: int) -> None:
        positions = torch.randn(1, num_prefix + 12, 6)
        moved = interpolate_pos_embed(positions, (3, 4), (6, 8), num_prefix=num_prefix)
        assert moved.shape == (1, num_prefix + 48, 6)
        assert torch.equal(moved[:, :num_prefix], positions[:, :num_prefix])

    @pytest.mark.parametrize(("old", "new"), [((3, 4), (3, 4, 1)), ((3, 5), (6, 6))])
    def test_other_axes_or_token_counts_are_refused(self, old: tuple[int, ...], new: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match=r"positions for 12 tokens .* can't be moved"):
            interpolate_pos_embed(torch.zeros(1, 13, 6), old, new)
