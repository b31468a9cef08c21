import math

import pytest
import torch

from scd_plugin.ops import gumbel_noise_like, keep_count, partition_topk, position_hash, straight_through


class TestKeepCount:
    @pytest.mark.parametrize(
        ("tokens", "ratio", "kept"),
        [(1728, 0.1, 172), (172, 0.1, 17), (17, 0.1, 1), (3, 0.1, 1), (1, 0.01, 1), (64, 0.5, 32), (9, 1.0, 9)],
    )
    def test_published_counts_and_floor_of_one(self, tokens: int, ratio: float, kept: int) -> None:
        assert keep_count(tokens, ratio) == kept

    @pytest.mark.parametrize("ratio", [0.0, -0.1, 1.01, math.nan])
    def test_ratio_outside_is_refused(self, ratio: float) -> None:
        with pytest.raises(ValueError, match=r"keep_ratio must be in \(0, 1\].*got " + str(ratio)):
            keep_count(10, ratio)


class TestPartition:
    def test_best_first_each_part_ascending(self) -> None:
        order = partition_topk(torch.tensor([[0.1, 0.9, 0.5, 0.7, 0.2]]), 2)
        assert order.tolist() == [[1, 3, 0, 2, 4]]

    def test_agrees_with_topk_where_nothing_ties(self) -> None:
        scores = torch.randn(5, 200)
        order = partition_topk(scores, 37)
        expected = scores.topk(37, dim=1).indices.sort(dim=1).values
        assert torch.equal(order[:, :37], expected)
        assert torch.equal(order.sort(dim=1).values, torch.arange(200).expand(5, -1))

    def test_ties_go_to_the_earlier_position(self) -> None:
        order = partition_topk(torch.tensor([[1.0, 2.0, 1.0, 1.0, 0.0, 1.0]]), 3)
        assert order.tolist() == [[0, 1, 2, 3, 4, 5]]
        assert partition_topk(torch.zeros(2, 7), 4).tolist() == [list(range(7))] * 2

    def test_scores_within_the_tolerance_are_equal(self) -> None:
        scores = torch.tensor([[1.0, 4.0, 4.00002, 3.0, 3.99999, 8.0]])
        assert partition_topk(scores, 2)[:, :2].tolist() == [[2, 5]]
        # relative to the best score, 8: all within 8e-5 of the second best are equal to it
        assert partition_topk(scores, 2, 1e-5)[:, :2].tolist() == [[1, 5]]
        assert partition_topk(scores, 4, 1e-5)[:, :4].tolist() == [[1, 2, 4, 5]]

    @pytest.mark.parametrize("tolerance", [0.0, 1e-5])
    def test_infinite_scores_and_nan_leave_a_permutation(self, tolerance: float) -> None:
        scores = torch.tensor([[math.nan, -math.inf, math.inf, 0.0], [math.nan] * 4])
        assert partition_topk(scores, 3, tolerance).sort(dim=1).values.tolist() == [[0, 1, 2, 3]] * 2

    def test_nan_is_the_worst_score(self) -> None:
        assert partition_topk(torch.tensor([[math.nan, -5.0, -9.0]]), 2).tolist() == [[1, 2, 0]]

    def test_batch_is_a_loop_over_samples(self) -> None:
        scores = torch.randn(4, 31)
        one_by_one = torch.cat([partition_topk(row.unsqueeze(0), 9) for row in scores])
        assert torch.equal(partition_topk(scores, 9), one_by_one)

    @pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
    def test_a_trace_runs_on_another_device(self) -> None:
        def partition(scores: torch.Tensor) -> torch.Tensor:
            return partition_topk(scores, 3, 1e-5)

        traced, scores = torch.jit.trace(partition, torch.randn(2, 9)), torch.randn(4, 9)
        assert 'value="cpu"' not in str(traced.graph)
        assert torch.equal(traced(scores), partition(scores))

    @pytest.mark.parametrize("keep", [0, 6])
    def test_impossible_count_is_refused(self, keep: int) -> None:
        with pytest.raises(ValueError, match=rf"keep must be in \[1, 5\], the number of tokens; got {keep}"):
            partition_topk(torch.zeros(1, 5), keep)


class TestStraightThrough:
    def test_value_is_the_hard_decision(self) -> None:
        logits = torch.randn(3, 20)
        policy = straight_through(logits, partition_topk(logits, 6), 6)
        torch.testing.assert_close(policy, torch.tensor([1.0] * 6 + [0.0] * 14).expand(3, -1), atol=1e-6, rtol=0)

    def test_gradient_is_the_softmax_gradient(self) -> None:
        logits = torch.randn(2, 8, requires_grad=True)
        order = partition_topk(logits.detach(), 3)
        weight = torch.randn(2, 8)
        (straight_through(logits, order, 3) * weight).sum().backward()
        softmax_logits = logits.detach().clone().requires_grad_()
        (softmax_logits.softmax(dim=1).gather(1, order) * weight).sum().backward()
        torch.testing.assert_close(logits.grad, softmax_logits.grad)


class TestNoise:
    def test_gumbel_mean_and_spread(self) -> None:
        noise = gumbel_noise_like(torch.empty(200_000))
        assert noise.mean().item() == pytest.approx(0.5772, abs=0.02)
        assert noise.std().item() == pytest.approx(math.pi / math.sqrt(6), abs=0.02)
        assert torch.isfinite(noise).all()

    def test_hash_is_fixed_and_spread_evenly(self) -> None:
        chance = position_hash(torch.arange(10_000), salt=3)
        assert torch.equal(chance, position_hash(torch.arange(10_000), salt=3))
        counts = torch.histc(chance, bins=10, min=0, max=1)
        assert counts.min() > 900
        assert counts.max() < 1100
        other = position_hash(torch.arange(10_000), salt=4)
        assert abs(torch.corrcoef(torch.stack((chance, other)))[0, 1].item()) < 0.03
