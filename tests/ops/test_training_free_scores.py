"""Scores on tokens made so that the right answer is known."""

from __future__ import annotations

import math

import pytest
import torch

from scd_plugin.ops.training_free_scores import (
    MAX_QUERIES,
    attention_received,
    neighbor_distance,
    prediction_entropy,
    relative_change,
    standardized,
    token_norm,
)

GRID = (3, 4, 5)


def places(batch: int = 1) -> torch.Tensor:
    return torch.arange(math.prod(GRID)).expand(batch, -1)


class TestNeighborDistance:
    def test_flat_regions_are_zero_and_what_differs_stands_out(self) -> None:
        tokens = torch.ones(1, 60, 8)
        tokens[0, 33] = -1.0
        scores = neighbor_distance(tokens, places(), GRID)
        assert scores.argmax().item() == 33
        # twice the length of a token from its neighbours, all of which are 1
        assert scores[0, 33].item() == pytest.approx(2.0)
        # place 33 is (1, 2, 3), so place 0 is no neighbour of it
        assert scores[0, 0].item() == pytest.approx(0.0, abs=1e-6)

    def test_only_tokens_that_are_there_count(self) -> None:
        # two neighbours at the places 0 and 1, and one far away from both
        idx = torch.tensor([[0, 1, 59]])
        tokens = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]]])
        scale = math.sqrt((1 + 1 + 8) / 3)
        lone = math.dist((2, 2), (1, 1))
        expected = [math.sqrt(2) / scale, math.sqrt(2) / scale, lone / scale]
        assert neighbor_distance(tokens, idx, GRID)[0].tolist() == pytest.approx(expected, rel=1e-5)

    def test_length_of_tokens_does_not_matter(self) -> None:
        tokens = torch.randn(2, 60, 8)
        torch.testing.assert_close(
            neighbor_distance(1000 * tokens, places(2), GRID), neighbor_distance(tokens, places(2), GRID)
        )

    @pytest.mark.parametrize("grid", [(1, 8, 8), (2, 4, 4)])
    def test_a_grid_with_fewer_places_than_neighbours(self, grid: tuple[int, ...]) -> None:
        number = math.prod(grid)
        tokens = torch.ones(1, number, 8)
        tokens[0, 1] = -1.0
        scores = neighbor_distance(tokens, torch.arange(number)[None], grid)
        assert scores.argmax().item() == 1
        assert scores[0, 1].item() == pytest.approx(2.0)

    def test_zeros_give_zeros(self) -> None:
        assert torch.equal(neighbor_distance(torch.zeros(1, 60, 8), places(), GRID), torch.zeros(1, 60))


def test_token_norm() -> None:
    assert token_norm(torch.tensor([[[3.0, 4.0], [0.0, 0.0]]])).tolist() == [[5.0, 0.0]]


def test_relative_change_is_that_of_the_block() -> None:
    before = torch.tensor([[[3.0, 4.0], [0.0, 1.0], [0.0, 0.0]]])
    after = torch.tensor([[[3.0, 4.0], [0.0, 3.0], [0.0, 0.0]]])
    assert relative_change(before, after)[0].tolist() == pytest.approx([0.0, 2.0, 0.0])


class TestAttentionReceived:
    def test_is_the_mean_of_the_attention_matrix(self) -> None:
        query, key = torch.randn(2, 3, 10, 4), torch.randn(2, 3, 10, 4)
        expected = ((query @ key.transpose(2, 3)) / 2).softmax(dim=3).mean(dim=(1, 2))
        torch.testing.assert_close(attention_received(query, key), expected)

    def test_prefix_takes_part_and_gets_no_score(self) -> None:
        query, key = torch.randn(1, 2, 10, 4), torch.randn(1, 2, 10, 4)
        torch.testing.assert_close(attention_received(query, key, 3), attention_received(query, key)[:, 3:])

    def test_a_key_that_all_look_for(self) -> None:
        query, key = torch.ones(1, 1, 6, 4), torch.zeros(1, 1, 6, 4)
        key[0, 0, 4] = 9.0
        assert attention_received(query, key).argmax().item() == 4

    def test_many_queries_are_thinned_out(self) -> None:
        query, key = torch.randn(1, 1, 3 * MAX_QUERIES, 4), torch.randn(1, 1, 3 * MAX_QUERIES, 4)
        thin = (query[:, :, ::3] @ key.transpose(2, 3) / 2).softmax(dim=3).mean(dim=(1, 2))
        torch.testing.assert_close(attention_received(query, key), thin)


def test_prediction_entropy_is_that_of_each_tokens_voxels() -> None:
    logits = torch.zeros(1, 2, 3, 4)
    # all of the second token's voxels are certain, half of the third's
    logits[:, 0, 1] = 50.0
    logits[:, 0, 2, :2] = 50.0
    assert prediction_entropy(logits)[0].tolist() == pytest.approx([math.log(2), 0.0, math.log(2) / 2], abs=1e-6)


def test_prediction_entropy_of_regions() -> None:
    """A voxel within all regions is as sure as one of none; one that may be in a region is not."""
    logits = torch.full((1, 3, 4, 2), -50.0)
    logits[:, :, 1] = 50.0
    logits[:, 0, 2] = 0.0
    logits[:, :, 3] = 0.0
    expected = [0.0, 0.0, math.log(2), 3 * math.log(2)]
    assert prediction_entropy(logits, regions=True)[0].tolist() == pytest.approx(expected, abs=1e-6)


def test_prediction_entropy_of_a_single_output() -> None:
    logits = torch.tensor([0.0, 50.0, -50.0]).reshape(1, 1, 3, 1)
    assert prediction_entropy(logits)[0].tolist() == pytest.approx([math.log(2), 0.0, 0.0], abs=1e-6)


def test_standardized() -> None:
    scores = standardized(torch.tensor([[1.0, 3.0], [7.0, 7.0]]))
    assert scores.tolist() == [[-1.0, 1.0], [0.0, 0.0]]
