"""Labels as teachers of the scores: what is watched, what is learned, and that the network stays what it is."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch

from scd_plugin import SCDUNETR
from scd_plugin.networks.guidance import TARGETS, SeenStage, StageWatch, guidance_loss
from scd_plugin.ops import exit_stages
from scd_plugin.ops.token_labels import TokenLabels, token_labels


def labels_of(mixed: list[list[bool]], labelled: list[list[bool]] | None = None) -> TokenLabels:
    facts = torch.tensor(mixed)
    known = torch.ones_like(facts) if labelled is None else torch.tensor(labelled)
    return TokenLabels(facts, facts, facts.float(), known, facts.float())


def seen(scores: list[list[float]], places: list[list[int]]) -> list[SeenStage]:
    nothing = torch.zeros(len(places), 0, dtype=torch.long)
    return [SeenStage(torch.tensor(scores, requires_grad=True), torch.tensor(places), nothing, nothing)]


class TestLoss:
    @pytest.mark.parametrize("pos_weight", [0.0, 3.0])
    def test_by_hand(self, pos_weight: float) -> None:
        loss = guidance_loss(seen([[2.0, -1.0]], [[0, 1]]), labels_of([[True, False]]), pos_weight=pos_weight)
        expected = (pos_weight * math.log1p(math.exp(-2)) + math.log1p(math.exp(-1))) / 2
        assert loss.item() == pytest.approx(expected)

    def test_places_are_followed(self) -> None:
        # the second stage sees two of four tokens
        labels = labels_of([[False, True, False, True]])
        right, wrong = seen([[9.0, -9.0]], [[3, 2]]), seen([[9.0, -9.0]], [[2, 3]])
        assert guidance_loss(right, labels).item() < 0.01 < 8 < guidance_loss(wrong, labels).item()

    @pytest.mark.parametrize("target", TARGETS)
    def test_nothing_labelled_is_zero(self, target: str) -> None:
        stages = seen([[1.0, -2.0, 3.0, 0.0]], [[0, 1, 2, 3]])
        loss = guidance_loss(stages, labels_of([[False] * 4], [[False] * 4]), target=target)
        loss.backward()
        assert loss.item() == 0
        assert stages[0].scores is not None
        assert stages[0].scores.grad is not None
        assert stages[0].scores.grad.abs().sum().item() == 0

    def test_boundaries_come_first_and_background_last(self) -> None:
        label = torch.tensor([[[[0, 0, 0, 1, 1, 1]]]])
        labels = token_labels(label, (1, 3))
        aims = {name: target(labels).tolist() for name, target in TARGETS.items()}
        assert aims["mixed"] == [[0.0, 1.0, 0.0]]
        assert aims["foreground"] == [[0.0, 1.0, 1.0]]
        assert aims["share"] == [[0.0, 0.5, 1.0]]
        assert aims["graded"] == [[0.0, 1.0, 0.5]]

    def test_no_token_to_keep(self) -> None:
        loss = guidance_loss(seen([[0.0] * 3] * 2, [[0, 1, 2]] * 2), labels_of([[False] * 3] * 2))
        assert loss.item() == pytest.approx(0.6931, abs=1e-4)


class TestWatch:
    @pytest.mark.parametrize("training", [True, False])
    @pytest.mark.parametrize("kind", ["unetr", "primus", "no prior"])
    def test_each_stage(self, small: Any, small_primus: Any, kind: str, training: bool) -> None:
        net = {"unetr": small, "primus": small_primus, "no prior": lambda: small_primus(prior=None)}[kind]()
        net.train(training)
        watch = StageWatch(net)
        image = torch.randn(2, 2, 32, 32, 32)
        for _ in range(2):
            net(image)
        found = watch.take()
        assert [stage.scores.shape[1] for stage in found if stage.scores is not None] == [64, 32, 16]
        assert [stage.left_idx.shape[1] for stage in found] == [32, 16, 8]
        assert torch.equal(found[0].grid_idx, torch.arange(64).expand(2, -1))
        assert torch.equal(found[1].grid_idx, found[0].kept_idx)
        assert watch.take() == []
        if not training:
            exits = exit_stages([*(stage.left_idx for stage in found), found[-1].kept_idx])
            assert torch.equal(exits, net.exit_stages(image).flatten(1))

    def test_a_network_without_scores(self, small: Callable[..., SCDUNETR]) -> None:
        watch = StageWatch(small(keep_ratio=1))
        assert watch.take() == []
        net = small(sampling="random")
        watch = StageWatch(net)
        net(torch.randn(1, 2, 32, 32, 32))
        assert [stage.scores for stage in watch.take()] == [None] * 3

    def test_paused(self, small: Callable[..., SCDUNETR]) -> None:
        net = small()
        watch, image = StageWatch(net), torch.randn(1, 2, 32, 32, 32)
        with watch.paused():
            net(image)
            assert not any(module._forward_hooks for module in net.modules())
        assert watch.take() == []
        net(image)
        assert len(watch.take()) == 3
        with watch.paused(), watch.paused():
            net(image)
        net(image)
        assert len(watch.take()) == 3

    def test_scores_of_a_pass_that_failed_are_let_go(self, small: Callable[..., SCDUNETR]) -> None:
        net = small()
        watch, image = StageWatch(net), torch.randn(1, 2, 32, 32, 32)

        def fail(*_: Any) -> None:
            raise MemoryError

        # heard after the watch's own hook, before the stage's
        failing = net.pruning_stages()[1].score.register_forward_hook(fail)
        for _ in range(3):
            with pytest.raises(MemoryError):
                net(image)
        failing.remove()
        net(image)
        assert len(watch.take()) == 3
        assert watch._scores == []

    def test_copied_with_a_network_in_training(self, small: Callable[..., SCDUNETR]) -> None:
        net = small().train()
        watch = StageWatch(net)
        net(torch.randn(1, *net.image_shape))
        copied = deepcopy(net)
        assert len(watch.take()) == 3
        copied(torch.randn(1, *net.image_shape))
        # the copy has a watch of its own
        assert watch.take() == []

    def test_places_by_name(self, small: Callable[..., SCDUNETR]) -> None:
        net = small()
        watch = StageWatch(net)
        stage = net.pruning_stages()[0]
        places = torch.arange(8)[None]
        stage(torch.randn(1, 8, net.arguments["hidden_size"]), grid_idx=places)
        assert torch.equal(watch.take()[0].grid_idx, places)

    def test_prior_is_part_of_the_score(self, small_primus: Any) -> None:
        # the learned part starts at zero, and the prior has mean 0 and deviation 1
        net = small_primus(prior="norm")
        watch = StageWatch(net)
        net(torch.randn(2, 2, 32, 32, 32))
        scores = watch.take()[0].scores
        assert scores is not None
        assert scores.std(dim=1).tolist() == pytest.approx([1, 1], abs=0.05)

    def test_the_forward_pass_is_the_same(self, small: Callable[..., SCDUNETR]) -> None:
        torch.manual_seed(0)
        plain, watched = small(), small()
        watched.load_state_dict(plain.state_dict())
        StageWatch(watched)
        image = torch.randn(1, 2, 32, 32, 32)
        results = []
        for net in (plain, watched):
            torch.manual_seed(1)
            results.append(net(image))
        assert torch.equal(*results)
        assert plain.state_dict().keys() == watched.state_dict().keys()

    @pytest.mark.slow
    def test_compiled(self, small: Callable[..., SCDUNETR]) -> None:
        net = small()
        watch = StageWatch(net)
        compiled = torch.compile(net, backend="aot_eager")
        for _ in range(2):
            compiled(torch.randn(1, 2, 32, 32, 32)).mean()
            found = [stage.scores for stage in watch.take()]
            assert [scores.shape[1] for scores in found if scores is not None] == [64, 32, 16]
            assert all(scores is not None and scores.requires_grad for scores in found)


def test_the_choice_is_learned(small: Callable[..., SCDUNETR]) -> None:
    """Tokens that hold a bright block stay after a few steps; chance would keep half of them."""
    torch.manual_seed(0)
    net = small(in_channels=1, keep_ratio=(0.25, 0.5, 0.5))
    watch = StageWatch(net)
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)

    def batch() -> tuple[torch.Tensor, torch.Tensor]:
        label = torch.zeros(4, 1, 32, 32, 32)
        for sample, (x, y, z) in enumerate(torch.randint(0, 20, (4, 3)).tolist()):
            label[sample, 0, x : x + 12, y : y + 12, z : z + 12] = 1
        return torch.randn_like(label) + 3 * label, label

    for _ in range(30):
        image, label = batch()
        net(image)
        loss = guidance_loss(watch.take(), token_labels(label, net.grid_size), target="foreground")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    image, label = batch()
    left = net.eval().exit_stages(image).flatten(1) == 0
    holds = token_labels(label, net.grid_size).foreground
    assert (left & holds).sum() / holds.sum() < 0.2
    assert (left & ~holds).sum() / (~holds).sum() > 0.75
