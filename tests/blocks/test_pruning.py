import pytest
import torch

from scd_plugin.blocks import SoftTopKPruning


def inputs(batch: int = 2, tokens: int = 20, width: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(batch, tokens, width), torch.arange(tokens).expand(batch, -1)


class TestEvaluation:
    def test_keeps_the_highest_scores_in_grid_order(self) -> None:
        stage, (tokens, places) = SoftTopKPruning(48, 0.3).eval(), inputs()
        pruned = stage(tokens, places)
        scores = stage.score(tokens)
        assert torch.equal(pruned.kept_idx, scores.topk(6, dim=1).indices.sort(dim=1).values)
        assert torch.equal(pruned.kept, tokens.gather(1, pruned.kept_idx.unsqueeze(-1).expand(-1, -1, 48)))
        assert pruned.left.shape == (2, 14, 48)
        assert (pruned.left_idx.diff(dim=1) > 0).all()
        assert pruned.policy is None

    @pytest.mark.parametrize("sampling", ["soft_topk", "topk", "random"])
    def test_does_not_depend_on_the_random_state(self, sampling: str) -> None:
        stage, (tokens, places) = SoftTopKPruning(48, 0.3, sampling=sampling).eval(), inputs()
        first = stage(tokens, places)
        torch.manual_seed(123)
        assert torch.equal(first.kept_idx, stage(tokens, places).kept_idx)

    def test_equal_tokens_are_decided_by_position(self) -> None:
        stage, (_, places) = SoftTopKPruning(48, 0.3).eval(), inputs()
        assert stage(torch.ones(2, 20, 48), places).kept_idx.tolist() == [list(range(6))] * 2

    def test_random_control_differs_between_stages(self) -> None:
        tokens, places = inputs(tokens=200)
        kept = [
            SoftTopKPruning(48, 0.5, after_block=n, sampling="random").eval()(tokens, places).kept_idx for n in (3, 6)
        ]
        assert not torch.equal(*kept)


class TestTraining:
    def test_values_do_not_change(self) -> None:
        stage, (tokens, places) = SoftTopKPruning(48, 0.3, norm_left=False), inputs()
        pruned = stage(tokens, places)
        for part, idx in ((pruned.kept, pruned.kept_idx), (pruned.left, pruned.left_idx)):
            torch.testing.assert_close(part, tokens.gather(1, idx.unsqueeze(-1).expand(-1, -1, 48)))

    def test_noise_explores_other_choices_and_topk_does_not(self) -> None:
        tokens, places = inputs(tokens=100)
        noisy, still = SoftTopKPruning(48, 0.3), SoftTopKPruning(48, 0.3, sampling="topk")
        assert not torch.equal(noisy(tokens, places).kept_idx, noisy(tokens, places).kept_idx)
        assert torch.equal(still(tokens, places).kept_idx, still(tokens, places).kept_idx)

    @pytest.mark.parametrize("part", ["kept", "left"])
    def test_both_parts_teach_the_score_predictor(self, part: str) -> None:
        stage, (tokens, places) = SoftTopKPruning(48, 0.3), inputs()
        getattr(stage(tokens, places), part).square().sum().backward()
        assert stage.score is not None
        assert stage.score.project.weight.grad.abs().sum() > 0

    def test_policy_accumulates_over_stages(self) -> None:
        tokens, places = inputs()
        first, second = SoftTopKPruning(48, 0.5), SoftTopKPruning(48, 0.5)
        one = first(tokens, places)
        # the second stage gets its tokens detached, so the first can learn from it by the policy alone
        two = second(one.kept.detach(), one.kept_idx, one.policy)
        two.kept.square().sum().backward()
        assert first.score is not None
        assert first.score.project.weight.grad.abs().sum() > 0

    def test_random_control_learns_nothing(self) -> None:
        stage, (tokens, places) = SoftTopKPruning(48, 0.3, sampling="random"), inputs()
        assert stage.score is None
        assert stage(tokens, places).policy is None


class TestPrior:
    @pytest.mark.parametrize("training", [False, True])
    def test_alone_it_is_the_choice(self, training: bool) -> None:
        stage, (tokens, places) = SoftTopKPruning(48, 0.3, learn_score=False).train(training), inputs()
        prior = torch.randn(2, 20)
        pruned = stage(tokens, places, None, prior)
        assert torch.equal(pruned.kept_idx, prior.topk(6, dim=1).indices.sort(dim=1).values)
        assert pruned.policy is None
        assert list(stage.score.parameters() if stage.score else []) == []

    def test_is_added_to_the_learned_score(self) -> None:
        stage, (tokens, places) = SoftTopKPruning(48, 0.3).eval(), inputs()
        prior = torch.randn(2, 20)
        best = (stage.score(tokens) + prior).topk(6, dim=1).indices.sort(dim=1).values
        assert torch.equal(stage(tokens, places, None, prior).kept_idx, best)

    def test_the_learned_score_still_learns(self) -> None:
        stage, (tokens, places) = SoftTopKPruning(48, 0.3), inputs()
        stage(tokens, places, None, torch.randn(2, 20)).kept.square().sum().backward()
        assert stage.score is not None
        assert stage.score.project.weight.grad.abs().sum() > 0

    def test_nothing_to_choose_by(self) -> None:
        with pytest.raises(ValueError, match=r"learn_score=False leaves no scores .* pass prior"):
            SoftTopKPruning(48, 0.3, learn_score=False)(*inputs())


def test_batch_is_a_loop_over_samples() -> None:
    stage, (tokens, places) = SoftTopKPruning(48, 0.3).eval(), inputs(batch=4)
    together = stage(tokens, places)
    for i in range(4):
        alone = stage(tokens[i : i + 1], places[i : i + 1])
        assert torch.equal(alone.kept_idx[0], together.kept_idx[i])
        torch.testing.assert_close(alone.left[0], together.left[i])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"keep_ratio": 0.0}, r"keep_ratio must be in \(0, 1\].*got 0.0"),
        ({"tau": 0.0}, "tau must be positive.*got 0.0"),
        ({"sampling": "gumbel"}, "sampling must be one of soft_topk, topk, random; got 'gumbel'"),
    ],
)
def test_bad_settings_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SoftTopKPruning(48, **{"keep_ratio": 0.5, **arguments})  # type: ignore[arg-type]
