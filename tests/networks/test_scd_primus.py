from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scd_plugin import SCDPrimus
from scd_plugin.blocks.primus import decode_octants
from scd_plugin.networks import scd_primus
from scd_plugin.networks.priors import PRIORS
from scd_plugin.networks.scd_primus import COMPLETION, SAMPLING
from scd_plugin.ops import restore_tokens

Build = Callable[..., SCDPrimus]
Stock = Callable[..., nn.Module]
PRIMUS = {"sampling": "prior", "completion": "restore"}


def image(batch: int = 1, *size: int) -> Tensor:
    return torch.randn(batch, 2, *(size or (32, 32, 32)))


class TestIsPrimus:
    """At keep_ratio=1, against the library's own class."""

    @pytest.mark.parametrize("version", [1, 2, 3])
    def test_same_state_dict_and_same_logits(self, small_primus: Build, stock_primus: Stock, version: int) -> None:
        stock, net = stock_primus(version), small_primus(version=version, keep_ratio=1)
        assert list(net.state_dict()) == list(stock.state_dict())
        net.load_state_dict(stock.state_dict())
        batch = image(2)
        for mode in (True, False):
            torch.testing.assert_close(net.train(mode)(batch), stock.train(mode)(batch), atol=5e-6, rtol=5e-6)

    @pytest.mark.parametrize(
        ("ours", "theirs"),
        [
            ({"img_size": (16, 32, 24)}, {"input_shape": (16, 32, 24)}),
            ({"init_values": None, "scale_attn_inner": False}, {"init_values": None, "scale_attn_inner": False}),
            ({"num_register_tokens": 3}, {"num_register_tokens": 3}),
        ],
        ids=["crop", "plain blocks", "registers"],
    )
    def test_with_other_settings(
        self, small_primus: Build, stock_primus: Stock, ours: dict[str, Any], theirs: dict[str, Any]
    ) -> None:
        stock, net = stock_primus(**theirs).eval(), small_primus(keep_ratio=1, **ours).eval()
        net.load_state_dict(stock.state_dict())
        batch = image(1, *net.image_shape[1:])
        torch.testing.assert_close(net(batch), stock(batch), atol=5e-6, rtol=5e-6)

    @pytest.mark.parametrize("num_register_tokens", [0, 2])
    @pytest.mark.parametrize("version", [1, 2, 3])
    def test_same_logits_and_gradients(
        self, small_primus: Build, stock_primus: Stock, version: int, num_register_tokens: int
    ) -> None:
        stock, batch = stock_primus(version, num_register_tokens=num_register_tokens), image()
        net = small_primus(version=version, num_register_tokens=num_register_tokens, keep_ratio=1)
        net.load_state_dict(stock.state_dict())
        logits = [model(batch) for model in (stock, net)]
        torch.testing.assert_close(*logits, atol=5e-6, rtol=5e-6)
        for one in logits:
            one.square().mean().backward()
        wanted = dict(stock.named_parameters())
        assert wanted.keys() == dict(net.named_parameters()).keys()
        for name, parameter in net.named_parameters():
            torch.testing.assert_close(parameter.grad, wanted[name].grad, msg=name)

    @pytest.mark.parametrize("size", ["S", "B", "M", "L"])
    def test_sizes_are_the_librarys(self, size: str) -> None:
        from dynamic_network_architectures.architectures import primus

        with torch.device("meta"):
            net = SCDPrimus(1, 3, 64, size=size, keep_ratio=1)
            stock = getattr(primus, f"Primus{size}")(1, 3, (8, 8, 8), (64, 64, 64))
        ours, theirs = net.state_dict(), stock.state_dict()
        assert {name: value.shape for name, value in ours.items()} == {n: value.shape for n, value in theirs.items()}

    def test_nothing_new_without_training(self, small_primus: Build, stock_primus: Stock) -> None:
        net = small_primus(keep_ratio=0.5, **PRIMUS)
        assert list(net.state_dict()) == list(stock_primus().state_dict())
        assert len(net.stages) == 3


class TestPruning:
    def test_every_token_leaves_once(self, small_primus: Build) -> None:
        net = small_primus().eval()
        encoded = net.encode(image(2))
        assert [tokens.shape[1] for tokens in encoded.token_sets] == [32, 16, 8, 8]
        assert torch.equal(torch.cat(encoded.grid_idx, dim=1).sort(dim=1).values, torch.arange(64).expand(2, -1))
        stages = net.exit_stages(image(2))
        assert stages.shape == (2, 4, 4, 4)
        assert torch.bincount(stages[1].flatten()).tolist() == [32, 16, 8, 8]

    @pytest.mark.parametrize(("num_layers", "expected"), [(12, [2]), (16, [2]), (24, [4]), (4, [1]), (1, [1])])
    def test_one_stage_after_a_sixth_of_the_depth_by_default(
        self, small_primus: Build, num_layers: int, expected: list[int]
    ) -> None:
        net = small_primus(num_layers=num_layers, prune_after=None)
        assert [stage.after_block for stage in net.stages] == expected

    def test_rotary_positions_follow_the_kept_tokens(self, small_primus: Build) -> None:
        """A pruned forward pass, done by hand for one sample with attention over the kept tokens alone."""
        net = small_primus(prune_after=(2,), completion="restore").eval()
        batch = image(2)
        encoded = net.encode(batch)
        tokens = net.down_projection(batch).flatten(2).transpose(1, 2) + net.eva.pos_embed
        rope = net.eva.rope.get_embed()
        for block in net.eva.blocks[:2]:
            tokens = block(tokens, rope=rope)
        assert not torch.equal(encoded.grid_idx[1][0], encoded.grid_idx[1][1])
        for sample in range(2):
            kept = encoded.grid_idx[1][sample]
            alone = tokens[sample : sample + 1, kept]
            for block in net.eva.blocks[2:]:
                alone = block(alone, rope=rope[kept])
            torch.testing.assert_close(encoded.token_sets[1][sample], alone[0], atol=1e-5, rtol=1e-4)

    @pytest.mark.parametrize("num_register_tokens", [0, 2])
    @pytest.mark.parametrize(
        "changes",
        [{}, {"spatial_dims": 2, "img_size": (24, 40), "patch_size": (4, 8)}],
        ids=["3-D", "2-D"],
    )
    def test_and_behind_a_second_stage(
        self, small_primus: Build, changes: dict[str, Any], num_register_tokens: int
    ) -> None:
        net = small_primus(
            prune_after=(1, 3), completion="restore", num_register_tokens=num_register_tokens, **changes
        ).eval()
        batch = torch.randn(2, *net.image_shape)
        encoded = net.encode(batch)
        volume = batch if batch.ndim == 5 else batch.unsqueeze(2)
        tokens = net.down_projection(volume).flatten(2).transpose(1, 2)
        places = [torch.cat(encoded.grid_idx[stage:], dim=1).sort(dim=1).values for stage in range(3)]
        assert not torch.equal(places[2][0], places[2][1])
        for sample in range(2):
            registers = tokens[:1, :0] if net.register_tokens is None else net.register_tokens
            alone = torch.cat((registers, tokens[sample : sample + 1]), dim=1) + net.eva.pos_embed
            for number, block in enumerate(net.eva.blocks):
                # two stages: the first block sees all places, the next two those of stage 1, the last those of stage 2
                stage = (0, 1, 1, 2)[number]
                seen = places[stage][sample]
                if number in (1, 3):
                    at = torch.isin(places[stage - 1][sample], seen).nonzero().flatten()
                    chosen = torch.cat((torch.arange(num_register_tokens), at + num_register_tokens))
                    alone = alone[:, chosen]
                alone = block(alone, rope=rotary(net, seen))
            torch.testing.assert_close(
                encoded.token_sets[2][sample], alone[0, num_register_tokens:], atol=1e-5, rtol=1e-4
            )
            torch.testing.assert_close(encoded.prefix[sample], alone[0, :num_register_tokens], atol=1e-5, rtol=1e-4)

    def test_leaving_tokens_are_decoded_as_they_left(self, small_primus: Build) -> None:
        net, batch = small_primus(prune_after=(2,), **PRIMUS).eval(), image()
        left, places = net.encode(batch).token_sets[0], net.encode(batch).grid_idx[0]
        logits = net(batch)
        # Primus's decoder upsamples each token by itself
        alone = net.up_projection(net.eva.norm(left).transpose(1, 2)[..., None, None])
        place = int(places[0, 5])
        corner = [8 * (place // step % 4) for step in (16, 4, 1)]
        block = logits[0][(slice(None), *[slice(start, start + 8) for start in corner])]
        torch.testing.assert_close(alone[0, :, 40:48], block, atol=1e-5, rtol=1e-4)

    @pytest.mark.parametrize("kind", ["assembly", "restore"])
    @pytest.mark.parametrize("sampling", ["soft_topk", "prior"])
    def test_what_is_new_adds_nothing_at_first(self, small_primus: Build, kind: str, sampling: str) -> None:
        net = small_primus(completion=kind, sampling=sampling).eval()
        plain = small_primus(**PRIMUS).eval()
        shared = {name: value for name, value in net.state_dict().items() if name in plain.state_dict()}
        plain.load_state_dict(shared)
        batch = image()
        torch.testing.assert_close(net(batch), plain(batch), atol=5e-6, rtol=5e-6)

    def test_completion_is_one_more_block(self, small_primus: Build) -> None:
        """Scaled, and added before the last LayerNorm."""
        net = small_primus(init_values=0.25, num_register_tokens=2).eval()
        scale = net.get_parameter("completion.refine.scale.gamma")
        assert (scale == 0.25).all()
        nn.init.normal_(net.completion.refine.project.weight)
        batch = image()
        encoded = net.encode(batch)
        normed = [net.eva.norm(tokens) for tokens in encoded.token_sets]
        added = net.completion(net.eva.norm(encoded.prefix), normed, encoded.grid_idx)
        tokens = net.eva.norm(restore_tokens(encoded.token_sets, encoded.grid_idx) + added)
        logits = net.up_projection(tokens.transpose(1, 2).unflatten(2, net.volume_grid))
        torch.testing.assert_close(net(batch), logits)
        with torch.no_grad():
            scale.zero_()
        assert not torch.allclose(net(batch), logits, atol=1e-2)

    @pytest.mark.parametrize("num_register_tokens", [0, 2])
    @pytest.mark.parametrize("prior", PRIORS)
    def test_each_prior_makes_a_choice_of_its_own(
        self, small_primus: Build, prior: str, num_register_tokens: int
    ) -> None:
        net = small_primus(prior=prior, num_register_tokens=num_register_tokens).eval()
        batch = image(2)
        stages = net.exit_stages(batch)
        assert torch.equal(stages, net.exit_stages(batch))
        # neither the first places, as ties would give, nor the same for every image
        assert not torch.equal(stages[0], stages[1])
        assert (stages[0].flatten()[:8] < 3).any()

    def test_prior_of_regions(self, small_primus: Build) -> None:
        """The same outputs, read as classes and as regions, are unsure of other tokens."""
        net = small_primus(regions=True, sampling="prior", out_channels=2)
        image = torch.randn(1, *net.image_shape)
        of_regions = net.exit_stages(image)
        net.set_regions(False)
        assert net.arguments["regions"] is False
        assert not torch.equal(net.exit_stages(image), of_regions)

    def test_choices_differ_between_priors(self, small_primus: Build) -> None:
        batch, chosen = image(), set()
        net = small_primus().eval()
        for prior in PRIORS:
            net.prior = prior
            chosen.add(tuple(net.exit_stages(batch).flatten().tolist()))
        assert len(chosen) == len(PRIORS)

    def test_closer_to_dense_the_more_is_kept(self, small_primus: Build, stock_primus: Stock) -> None:
        stock, batch, errors = stock_primus(init_values=1.0).eval(), image(2), []
        dense = stock(batch)
        for keep_ratio in (0.25, 0.5, 0.75, 0.9, 1):
            net = small_primus(keep_ratio=keep_ratio, init_values=1.0, **PRIMUS).eval()
            net.load_state_dict(stock.state_dict())
            errors.append(((net(batch) - dense).norm() / dense.norm()).item())
        assert errors == sorted(errors, reverse=True)
        assert errors[-1] < 1e-6
        assert errors[0] < 0.5

    def test_batch_is_a_loop_over_samples(self, small_primus: Build) -> None:
        net, batch = small_primus().eval(), image(3)
        alone = torch.cat([net(sample.unsqueeze(0)) for sample in batch])
        torch.testing.assert_close(net(batch), alone, atol=1e-5, rtol=1e-4)


class TestShapes:
    @pytest.mark.parametrize(
        ("img_size", "patch_size"),
        [((40, 56, 40), 8), ((20, 28, 20), 4), ((12, 32, 24), (4, 8, 8)), ((5, 16, 16), (1, 8, 8))],
        ids=str,
    )
    @pytest.mark.parametrize("version", [1, 2, 3])
    def test_3d(self, small_primus: Build, img_size: Any, patch_size: Any, version: int) -> None:
        net = small_primus(img_size=img_size, patch_size=patch_size, version=version)
        assert net(image(1, *img_size)).shape == (1, 3, *img_size)

    @pytest.mark.parametrize(("version", "prior"), [*((version, "entropy") for version in (1, 2, 3)), (1, "neighbors")])
    def test_2d(self, small_primus: Build, version: int, prior: str) -> None:
        net = small_primus(spatial_dims=2, img_size=(24, 40), patch_size=(4, 8), version=version, prior=prior)
        assert net(image(2, 24, 40)).shape == (2, 3, 24, 40)
        assert net.exit_stages(image(2, 24, 40)).shape == (2, 6, 5)

    def test_arguments_rebuild_it(self, small_primus: Build) -> None:
        net = small_primus(version=2, prune_after=(1, 3), completion_hidden_size=24, completion_num_heads=2)
        again = SCDPrimus(**net.arguments)
        again.load_state_dict(net.state_dict())
        assert again.eval()(batch := image()).equal(net.eval()(batch))


class TestTraining:
    @pytest.mark.parametrize("sampling", SAMPLING)
    @pytest.mark.parametrize("completion", COMPLETION)
    def test_every_parameter_gets_a_gradient(self, small_primus: Build, sampling: str, completion: str) -> None:
        assert_all_learn(small_primus(sampling=sampling, completion=completion))

    @pytest.mark.parametrize(
        "changes",
        [
            {"version": 2},
            {"version": 3, "patch_size": 4},
            {"num_register_tokens": 2},
            {"keep_ratio": 0.01},
            {"keep_ratio": 1},
            {"prior": None},
            {"prior": "entropy"},
            {"prune_after": (4,)},
        ],
        ids=str,
    )
    def test_every_parameter_gets_a_gradient_with(self, small_primus: Build, changes: dict[str, Any]) -> None:
        assert_all_learn(small_primus(**changes))

    def test_mask_tokens_start_calmly(self, small_primus: Build) -> None:
        # a LayerNorm of zeros would make the gradient a thousand times as large
        net = small_primus(completion="mask_token")
        net(image(2)).square().mean().backward()
        assert 0 < net.get_parameter("completion.refine.project.weight").grad.norm() < 10

    def test_after_the_first_step_all_parts_learn(self, small_primus: Build) -> None:
        net, batch = small_primus(), image(2)
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
        for _ in range(2):
            optimizer.zero_grad()
            net(batch).square().mean().backward()
            optimizer.step()
        for part in ("stages.0.score.project.weight", "completion.project.0.weight", "eva.blocks.3.attn.q_proj.weight"):
            assert net.get_parameter(part).grad.abs().sum() > 0, part

    def test_bfloat16(self, small_primus: Build) -> None:
        net = small_primus()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = net(image())
        logits.float().square().mean().backward()
        assert all(torch.isfinite(parameter.grad).all() for parameter in net.parameters())

    def test_an_early_look_leaves_nothing_that_was_cast(
        self, small_primus: Build, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Autocast of older versions of PyTorch would take it, without gradients, for the pass itself."""
        kept: list[bool] = []

        def look(*inputs: Any) -> torch.Tensor:
            kept.append(torch.is_autocast_cache_enabled())
            return decode_octants(*inputs)

        monkeypatch.setattr(scd_primus, "decode_octants", look)
        net = small_primus(keep_ratio=0.5)
        with torch.autocast("cpu", torch.bfloat16):
            net.train()(torch.randn(1, *net.image_shape))
            assert torch.is_autocast_cache_enabled()
            net.eval()(torch.randn(1, *net.image_shape))
        stages = len(net.stages)
        assert kept == [False] * stages + [True] * stages

    @pytest.mark.parametrize("prior", PRIORS)
    def test_flat_background_gives_finite_logits(self, small_primus: Build, prior: str) -> None:
        net = small_primus(prior=prior)
        for mode in (True, False):
            assert torch.isfinite(net.train(mode)(torch.zeros(1, 2, 32, 32, 32))).all()


def rotary(net: SCDPrimus, places: Tensor) -> Tensor:
    """Sines and cosines of some places, from their coordinates: one angle per axis and frequency, each for a pair."""
    _, height, width = net.volume_grid
    coordinates = torch.stack((places // (height * width), places // width % height, places % width), dim=1)
    pairs = net.eva.rope.dim // 4
    angles = coordinates.unsqueeze(2) / 10000 ** (torch.arange(pairs) / pairs)
    doubled = angles.flatten(1).repeat_interleave(2, dim=1)
    return torch.cat((doubled.sin(), doubled.cos()), dim=1)


def assert_all_learn(net: SCDPrimus) -> None:
    net(image(2)).square().mean().backward()
    assert [name for name, parameter in net.named_parameters() if parameter.grad is None] == []
    assert all(torch.isfinite(parameter.grad).all() for parameter in net.parameters())


class TestEvaluation:
    @pytest.mark.parametrize("sampling", SAMPLING)
    def test_does_not_depend_on_the_random_state(self, small_primus: Build, sampling: str) -> None:
        net, batch = small_primus(sampling=sampling, dropout_rate=0.1, drop_path_rate=0.2).eval(), image()
        first = net(batch)
        torch.manual_seed(77)
        assert torch.equal(net(batch), first)


class TestBadInput:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"version": 4}, "version must be one of 1, 2, 3, those of Primus; got 4"),
            ({"size": "XL"}, "size must be one of S, B, M, L; got 'XL'"),
            ({"patch_size": 7}, r"patch_size \(7, 7, 7\) does not divide .* token patch that divides 32 is 8"),
            ({"img_size": 36, "patch_size": 12}, r"patch_size must be a power of two .*got \(12, 12, 12\)"),
            ({"patch_size": 1}, r"patch_size must be larger than 1 on at least one axis; got \(1, 1, 1\)"),
            ({"keep_ratio": 0.0}, r"keep_ratio must be in \(0, 1\].*got 0.0"),
            ({"prune_after": (1, 2, 5)}, r"prune_after must be .* in \[1, 4\].*got \(1, 2, 5\)"),
            ({"sampling": "top_k"}, "sampling must be one of soft_topk, topk, random, prior; got 'top_k'"),
            (
                {"completion": "mae"},
                "completion must be one of assembly, assembly_to_kept, .*; got 'mae'",
            ),
            ({"prior": "luck"}, "prior must be one of None, neighbors, .*; got 'luck'"),
            ({"prior": None, "sampling": "prior"}, "sampling='prior' needs a prior, one of neighbors, .*; got None"),
            ({"spatial_dims": 4}, "spatial_dims must be one of 2, 3; got 4"),
            (
                {"hidden_size": 50},
                "hidden_size must be a multiple of 6 times .*hidden_size 50 and num_heads 4",
            ),
            ({"num_layers": 0}, "num_layers must be an int of at least 1; got 0"),
            ({"num_register_tokens": -1}, "num_register_tokens must be an int of at least 0; got -1"),
            ({"drop_path_rate": 1.0}, r"drop_path_rate must be in \[0, 1\); got 1.0"),
            ({"completion_hidden_size": 50}, "completion_hidden_size must be divisible by num_heads.*got 50 and 4"),
            ({"completion_num_heads": 0}, "completion_num_heads must be an int of at least 1; got 0"),
        ],
        ids=str,
    )
    def test_settings(self, small_primus: Build, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            small_primus(**changes)

    def test_image(self, small_primus: Build) -> None:
        with pytest.raises(ValueError, match=r"image must have shape \(B, 2, 32, 32, 32\).*got \[1, 2, 32, 32, 24\]"):
            small_primus()(torch.zeros(1, 2, 32, 32, 24))
