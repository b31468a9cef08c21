"""A graph that does not answer as its network does is never used."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from scd_plugin.networks import replay
from scd_plugin.networks.replay_check import check_replay
from tests.networks.graph_stand_in import StandIn, computed, graphs_of, image_of, install, passes
from tests.networks.test_idioms import BUILD


class Answers(nn.Module):
    """Twice the image, as a list with a constant."""

    def forward(self, image: Tensor) -> list[Tensor]:
        return [2 * image, torch.zeros(3)]


def test_rounding_is_no_difference() -> None:
    image = torch.randn(1, 1, 8, 8)
    check_replay(lambda one: [2 * one + 1e-3 * torch.randn_like(one), torch.zeros(3)], Answers(), image)


WRONG: dict[str, tuple[Callable[[Tensor, Tensor], list[Tensor]], str]] = {
    # the image that was recorded, whatever comes
    "no new image": (lambda _, first: [2 * first, torch.zeros(3)], r"\d+"),
    "scaled": (lambda one, _: [2.1 * one, torch.zeros(3)], "5"),
    "no zeros": (lambda one, _: [2 * one, torch.full((3,), 1e-6)], "inf"),
    "nan": (lambda one, _: [2 * one, torch.full((3,), float("nan"))], "inf"),
    "inf": (lambda one, _: [one * float("inf"), torch.zeros(3)], "inf"),
}


@pytest.mark.parametrize("name", WRONG)
def test_others_are(name: str) -> None:
    image, (answer, percent) = torch.randn(1, 1, 8, 8), WRONG[name]
    with pytest.raises(RuntimeError, match=rf"differs from the computed one by {percent}[\d.]* % on average"):
        check_replay(lambda one: answer(one, image), Answers(), image)


def test_values_that_are_not_finite_in_both() -> None:
    class Broken(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return image / 0

    image = torch.ones(1, 1, 4)
    check_replay(lambda one: one / 0, Broken(), image)


@pytest.mark.parametrize("wrong", [False, True])
def test_in_a_network(wrong: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    install(monkeypatch)
    monkeypatch.setattr(replay, "check_replay", check_replay)
    if wrong:
        monkeypatch.setattr(StandIn, "__call__", lambda self, _: self.output)
    net = BUILD["unetr"]().eval()
    with torch.no_grad(), caplog.at_level(logging.WARNING):
        passes(net, image_of(net), replay.WARM_UP + 2)
        image = image_of(net)
        assert torch.equal(net(image), computed(net, image))
    assert graphs_of(net) == (0 if wrong else 1)
    assert ("a replayed pass differs from the computed one by" in caplog.text) is wrong
    assert len(StandIn.recorded) == 1
