"""One set of weights at several keep ratios."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from scd_plugin import SCDNetwork, SCDPrimus
from scd_plugin.networks.drawn_keep_ratio import DrawnKeepRatio, drawn_ratio

SIZES = {"img_size": 16, "patch_size": 4}
KINDS = ["small", "small_primus"]
COMPLETIONS = [
    *[("small", completion) for completion in ("assembly", "assembly_to_kept", "mask_token")],
    *[("small_primus", completion) for completion in ("assembly", "assembly_to_kept", "mask_token", "restore")],
]


@pytest.fixture
def build(request: pytest.FixtureRequest) -> Callable[..., SCDNetwork]:
    """Builds a small network of a kind."""

    def make(kind: str, **changes: Any) -> SCDNetwork:
        return request.getfixturevalue(kind)(**{**SIZES, **changes}).eval()

    return make


def ratios(net: SCDNetwork) -> list[float]:
    return [stage.keep_ratio for stage in net.pruning_stages()]


class TestSetter:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("keep_ratio", [0.25, (0.75, 0.5, 0.1)], ids=str)
    def test_as_if_built_for_it(self, build: Callable[..., SCDNetwork], kind: str, keep_ratio: Any) -> None:
        net, other, image = build(kind), build(kind, keep_ratio=keep_ratio), torch.randn(2, 2, 16, 16, 16)
        other.load_state_dict(net.state_dict())
        with torch.no_grad():
            before = net(image)
            net.set_keep_ratio(keep_ratio)
            assert torch.equal(net(image), other(image))
            assert not torch.equal(net(image), before)
        assert ratios(net) == ratios(type(net)(**net.arguments)) == ratios(other)

    def test_arguments_say_it_as_it_was_said(self, build: Callable[..., SCDNetwork]) -> None:
        net = build("small")
        net.set_keep_ratio((0.5, 0.25, 0.1))
        assert net.arguments["keep_ratio"] == [0.5, 0.25, 0.1]
        net.set_keep_ratio([0.5] * 3)
        assert net.arguments["keep_ratio"] == 0.5

    def test_stages_that_were_left_out_stay_out(self, build: Callable[..., SCDNetwork]) -> None:
        net = build("small", keep_ratio=(0.75, 1, 0.25))
        net.set_keep_ratio((0.5, 0.1))
        assert net.arguments["keep_ratio"] == [0.5, 1.0, 0.1]
        net.set_keep_ratio(0.5)
        assert ratios(type(net)(**net.arguments)) == [0.5, 0.5]

    def test_default_stage_of_primus(self, build: Callable[..., SCDNetwork]) -> None:
        net = build("small_primus", prune_after=None)
        net.set_keep_ratio(0.75)
        assert (ratios(net), net.arguments["keep_ratio"], net.arguments["prune_after"]) == ([0.75], 0.75, None)

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize(
        ("keep_ratio", "message"),
        [
            (0, r"keep_ratio must be in \(0, 1\], the share of tokens kept at each stage .*; got 0"),
            (1.5, "keep_ratio must be in .*; got 1.5"),
            (float("nan"), "keep_ratio must be in .*; got nan"),
            ("0.5", "keep_ratio must be in .*; got '0.5'"),
            ((0.5, 0.5), r"one for each stage of prune_after \(1, 2, 3\); got \(0.5, 0.5\)"),
        ],
        ids=str,
    )
    def test_refused(self, build: Callable[..., SCDNetwork], kind: str, keep_ratio: Any, message: str) -> None:
        net = build(kind)
        with pytest.raises(ValueError, match=message):
            net.set_keep_ratio(keep_ratio)
        assert (ratios(net), net.arguments["keep_ratio"]) == ([0.5] * 3, 0.5)

    @pytest.mark.parametrize("kind", KINDS)
    def test_dense_network(self, build: Callable[..., SCDNetwork], kind: str) -> None:
        with pytest.raises(ValueError, match=r"prunes no tokens, so keep_ratio can't be set to 0\.5; take"):
            build(kind, keep_ratio=1).set_keep_ratio(0.5)

    def test_scripted(self, build: Callable[..., SCDNetwork]) -> None:
        net, image = build("small"), torch.randn(1, 2, 16, 16, 16)
        net.set_keep_ratio(0.25)
        with torch.no_grad():
            torch.testing.assert_close(torch.jit.script(net)(image), net(image))


class TestAllKept:
    @pytest.mark.parametrize(("kind", "completion"), COMPLETIONS)
    @pytest.mark.parametrize("sampling", ["soft_topk", "random"])
    def test_no_token_leaves(self, build: Callable[..., SCDNetwork], kind: str, completion: str, sampling: str) -> None:
        net, image = build(kind, completion=completion, sampling=sampling), torch.randn(2, 2, 16, 16, 16)
        net.set_keep_ratio(1)
        dense = build(kind, keep_ratio=1)
        dense.load_state_dict(net.state_dict(), strict=False)
        with torch.no_grad():
            encoded, everything = net.encode(image), dense.encode(image)
            assert [tokens.shape[1] for tokens in encoded.token_sets] == [0, 0, 0, 64]
            assert torch.equal(encoded.token_sets[-1], everything.token_sets[-1])
            assert torch.equal(net.exit_stages(image), torch.full((2, 4, 4, 4), 3))
            assert net(image).isfinite().all()
        net.train()(image).square().mean().backward()
        assert [name for name, weight in net.named_parameters() if weight.grad is None] == []
        assert all(weight.grad.isfinite().all() for weight in net.parameters() if weight.grad is not None)

    def test_restored_it_is_primus(self, build: Callable[..., SCDPrimus]) -> None:
        net, dense = build("small_primus", completion="restore"), build("small_primus", keep_ratio=1)
        dense.load_state_dict(net.state_dict(), strict=False)
        net.set_keep_ratio(1)
        image = torch.randn(1, 2, 16, 16, 16)
        with torch.no_grad():
            assert torch.equal(net(image), dense(image))


class TestDrawn:
    def test_a_draw_is_the_steps_own(self) -> None:
        assert [drawn_ratio((0.25, 0.5, 0.75), step) for step in range(8)] == [
            *(0.75, 0.5, 0.75, 0.75, 0.75, 0.75, 0.5, 0.75)
        ]
        drawn = [drawn_ratio((0.25, 0.5, 0.75), step) for step in range(3000)]
        assert all(900 < drawn.count(ratio) < 1100 for ratio in (0.25, 0.5, 0.75))

    @pytest.mark.parametrize("kind", KINDS)
    def test_around_a_step(self, build: Callable[..., SCDNetwork], kind: str) -> None:
        net = build(kind, keep_ratio=(0.5, 0.4, 0.3))
        drawn = DrawnKeepRatio(net, (0.25, 0.75))
        seen = set()
        for step in range(8):
            with drawn.at(step):
                seen.add(tuple(ratios(net)))
            assert ratios(net) == net.arguments["keep_ratio"] == [0.5, 0.4, 0.3]
        assert seen == {(0.25,) * 3, (0.75,) * 3}
        with pytest.raises(KeyError), drawn.at(0):
            raise KeyError
        assert ratios(net) == [0.5, 0.4, 0.3]

    def test_a_ratio_that_is_set_later(self, build: Callable[..., SCDNetwork]) -> None:
        net = build("small", keep_ratio=0.5)
        drawn = DrawnKeepRatio(net, (0.25, 0.75))
        net.set_keep_ratio(0.4)
        drawn.draw(0)
        drawn.draw(1)
        drawn.reset()
        assert ratios(net) == [0.4] * 3

    def test_none_to_draw_from(self, build: Callable[..., SCDNetwork]) -> None:
        dense = build("small", keep_ratio=1)
        with DrawnKeepRatio(dense, ()).at(0):
            assert dense.arguments["keep_ratio"] == 1

    @pytest.mark.parametrize("keep_ratios", [0.5, (0.5, 0), (0.5, 1.5), ("0.5",), None, (float("nan"),)], ids=str)
    def test_refused(self, build: Callable[..., SCDNetwork], keep_ratios: Any) -> None:
        with pytest.raises(ValueError, match=r"keep ratios to draw from must be a list of numbers in \(0, 1\].*; got "):
            DrawnKeepRatio(build("small"), keep_ratios)

    def test_dense_network(self, build: Callable[..., SCDNetwork]) -> None:
        with pytest.raises(ValueError, match="this network prunes no tokens"):
            DrawnKeepRatio(build("small", keep_ratio=1), (0.5,))
