import pytest
import torch

from scd_plugin.blocks import ScorePredictor


def test_one_logit_a_token() -> None:
    score = ScorePredictor(48)
    scores = score(torch.randn(2, 10, 48))
    assert scores.shape == (2, 10)
    with torch.no_grad():
        score.score.bias += 100
    torch.testing.assert_close(score(torch.zeros(1, 1, 48)).item(), 100.0, atol=2.0, rtol=0)


def test_half_of_the_channels_see_all_tokens() -> None:
    score = ScorePredictor(48).eval()
    tokens = torch.randn(1, 10, 48)
    changed = tokens.clone()
    changed[:, 9] += 5 * torch.randn(48)
    difference = (score(tokens) - score(changed)).abs()
    assert (difference[:, :9] > 0).all()


def test_order_of_tokens_does_not_matter() -> None:
    score, tokens, shuffled = ScorePredictor(48), torch.randn(1, 10, 48), torch.randperm(10)
    torch.testing.assert_close(score(tokens[:, shuffled]), score(tokens)[:, shuffled])


def test_scores_are_float32_under_autocast() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = ScorePredictor(48)(torch.randn(1, 500, 48))
    assert scores.dtype == torch.float32
    # bfloat16 would leave a few dozen distinct values
    assert scores.unique().numel() > 400


def test_width_must_divide_by_four() -> None:
    with pytest.raises(ValueError, match="hidden_size must be a multiple of 4 for the score predictor; got 50"):
        ScorePredictor(50)
