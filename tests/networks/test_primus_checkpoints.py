from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.distributed as dist
from dynamic_network_architectures.architectures.primus import Primus
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from scd_plugin import SCDPrimus, load_primus_state_dict, prune_primus
from scd_plugin.networks.primus_settings import primus_arguments_of

Build = Callable[..., SCDPrimus]
Stock = Callable[..., nn.Module]


class TestStateDict:
    @pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
    def test_shared_parameters_are_loaded_and_new_ones_keep_their_start(
        self, small_primus: Build, stock_primus: Stock, prefix: str
    ) -> None:
        stock, net = stock_primus(), small_primus()
        before = {name: value.clone() for name, value in net.state_dict().items()}
        load_primus_state_dict(net, {prefix + name: value for name, value in stock.state_dict().items()})
        wanted = stock.state_dict()
        for name, value in net.state_dict().items():
            new = name.startswith(net.new_parts)
            assert new == (name not in wanted)
            assert torch.equal(value, before[name] if new else wanted[name]), name

    def test_network_starts_near_the_dense_one(self, small_primus: Build, stock_primus: Stock) -> None:
        stock, batch = stock_primus(init_values=1.0).eval(), torch.randn(1, 2, 32, 32, 32)
        dense = stock(batch)
        loaded, fresh = small_primus(keep_ratio=0.75, init_values=1.0).eval(), small_primus(init_values=1.0).eval()
        load_primus_state_dict(loaded, stock.state_dict())
        errors = [((net(batch) - dense).norm() / dense.norm()).item() for net in (loaded, fresh)]
        assert errors[0] < 0.25 < errors[1]

    def test_positions_of_another_crop(self, small_primus: Build, stock_primus: Stock) -> None:
        stock, net = stock_primus(input_shape=(16, 32, 48)), small_primus()
        load_primus_state_dict(net, stock.state_dict(), old_grid=(2, 4, 6))
        assert net.eva.pos_embed.shape == (1, 64, 48)
        old, new = stock.eva.pos_embed.reshape(2, 4, 6, 48), net.eva.pos_embed.reshape(4, 4, 4, 48)
        # the first axis doubles, so that its first place stays; the second stays; on the third 6 places become 4
        torch.testing.assert_close(new[0, :, 0, 0], old[0, :, 0, 0] * 0.75 + old[0, :, 1, 0] * 0.25)

    def test_all_that_does_not_fit_is_named_and_nothing_is_loaded(
        self, small_primus: Build, stock_primus: Stock
    ) -> None:
        net = small_primus()
        before = {name: value.clone() for name, value in net.state_dict().items()}
        weights = dict(stock_primus(num_classes=5).state_dict())
        weights["extra"] = torch.zeros(1)
        del weights["eva.norm.weight"]
        with pytest.raises(ValueError, match=r"missing: eva.norm.weight; unknown: extra; wrong shape: .*up_proj") as e:
            load_primus_state_dict(net, weights)
        assert "\n" not in str(e.value)
        assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"input_shape": (40, 32, 32)}, r"wrong shape: eva.pos_embed \(1, 80, 48\) instead of \(1, 64, 48\)"),
            ({"version": 2}, r"missing: down_projection.proj.bias.*unknown: down_projection.final_proj"),
            ({"eva_depth": 5}, r"unknown: eva.blocks.4"),
        ],
        ids=["crop", "version", "depth"],
    )
    def test_of_another_network(
        self, small_primus: Build, stock_primus: Stock, changes: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            load_primus_state_dict(small_primus(), stock_primus(**changes).state_dict())

    def test_grid_that_the_positions_do_not_have(self, small_primus: Build, stock_primus: Stock) -> None:
        with pytest.raises(ValueError, match=r"positions for 64 tokens on grid \(3, 4, 4\) can't be moved"):
            load_primus_state_dict(small_primus(), stock_primus().state_dict(), old_grid=(3, 4, 4))


class TestPrune:
    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"version": 2, "input_shape": (16, 32, 24)},
            {"num_register_tokens": 2, "init_values": None, "scale_attn_inner": False},
            {"patch_embed_size": (4, 8, 8), "rope_kwargs": {"temperature": 10000.0, "max_res": 8}},
            # trained with dropout that SCDPrimus has not
            {"attn_drop_rate": 0.5, "eva_depth": 1},
            {
                "version": 3,
                "patch_embed_size": (4, 4, 4),
                "input_shape": (8, 8, 16),
                "depth_per_level": (1, 1),
                "ch_per_level": (32, 64, 256),
            },
        ],
        ids=str,
    )
    def test_keeping_all_changes_nothing(self, stock_primus: Stock, changes: dict[str, Any]) -> None:
        stock = stock_primus(**changes).eval()
        net = prune_primus(stock, keep_ratio=1)
        assert not net.training
        batch = torch.randn(1, *net.image_shape)
        torch.testing.assert_close(net(batch), stock(batch), atol=5e-6, rtol=5e-6)

    @pytest.mark.parametrize(("eva_depth", "expected"), [(12, [3, 6, 9]), (16, [4, 8, 12]), (2, [1]), (1, [])])
    def test_quarters_of_the_depth_by_default(self, stock_primus: Stock, eva_depth: int, expected: list[int]) -> None:
        net = prune_primus(stock_primus(eva_depth=eva_depth), keep_ratio=0.5)
        assert [stage.after_block for stage in net.stages] == expected

    def test_regions_of_a_dense_network(self, small_primus: Build, stock_primus: Stock) -> None:
        for dense in (small_primus(keep_ratio=1).eval(), stock_primus().eval()):
            assert [prune_primus(dense, regions=regions).arguments["regions"] for regions in (True, False)] == [1, 0]

    def test_a_single_output_is_told_apart(self, stock_primus: Stock) -> None:
        """By how unsure it is: not the first places of the grid alone stay."""
        net = prune_primus(stock_primus(num_classes=1).eval(), keep_ratio=0.5, prune_after=(2,))
        stages = net.exit_stages(torch.randn(1, 2, 32, 32, 32)).flatten()
        assert 0 < stages[:32].sum() < 32

    def test_prunes_with_weights_of_its_own(self, stock_primus: Stock) -> None:
        stock = stock_primus().eval()
        net = prune_primus(stock, keep_ratio=0.5, prune_after=(2,), prior="neighbors")
        assert net.prior == "neighbors"
        assert torch.bincount(net.exit_stages(torch.randn(1, 2, 32, 32, 32)).flatten()).tolist() == [32, 32]
        with torch.no_grad():
            net.eva.norm.weight.zero_()
        assert stock.eva.norm.weight.abs().sum() > 0

    def test_patch_sizes_are_read_off(self, stock_primus: Stock) -> None:
        arguments = primus_arguments_of(stock_primus(patch_embed_size=(4, 8, 8), input_shape=(16, 32, 32)))
        assert (arguments["patch_size"], arguments["img_size"]) == ((4, 8, 8), (16, 32, 32))

    def test_version_3_is_read_off(self, stock_primus: Stock) -> None:
        with torch.device("meta"):
            stock = stock_primus(3)
            net = SCDPrimus(**primus_arguments_of(stock), keep_ratio=1)
        assert list(net.state_dict()) == list(stock.state_dict())
        assert net.image_shape == [2, 32, 32, 32]

    def test_dropout_is_read_off(self, stock_primus: Stock) -> None:
        net = prune_primus(stock_primus(drop_path_rate=0.2, proj_drop_rate=0.1))
        assert net.training
        assert [block.drop_path1.drop_prob for block in net.eva.blocks[1:]] == pytest.approx([0.2 / 3, 0.4 / 3, 0.2])
        assert {block.mlp.drop2.p for block in net.eva.blocks} == {0.1}

    def test_keeps_the_precision(self, stock_primus: Stock) -> None:
        net = prune_primus(stock_primus().eval().double(), keep_ratio=0.5)
        assert net(torch.zeros(1, 2, 32, 32, 32, dtype=torch.float64)).dtype == torch.float64

    def test_only_the_pruning_can_be_changed(self, stock_primus: Stock) -> None:
        with pytest.raises(ValueError, match=r"changes must be of the pruning, such as keep_ratio; got hidden_size, i"):
            prune_primus(stock_primus(), img_size=64, hidden_size=24)

    def test_other_networks_are_refused(self, stock_primus: Stock) -> None:
        with pytest.raises(ValueError, match=r"primus must be a Primus, PrimusV2 or PrimusV3 .*got Linear"):
            prune_primus(nn.Linear(1, 1))
        with pytest.raises(ValueError, match=r"with learned and rotary positions, .*; got Primus"):
            prune_primus(stock_primus(use_rot_pos_emb=False))


class TestPruneWrapped:
    def check(self, wrapped: nn.Module, stock: nn.Module) -> None:
        net = prune_primus(wrapped, keep_ratio=0.5)
        assert type(net) is SCDPrimus
        assert list(net.state_dict()) == list(stock.state_dict())
        batch = torch.randn(1, 2, 32, 32, 32)
        assert torch.equal(net(batch), prune_primus(stock, keep_ratio=0.5)(batch))

    def test_compiled(self, stock_primus: Stock) -> None:
        stock = stock_primus().eval()
        self.check(torch.compile(stock), stock)

    def test_data_parallel_and_compiled(self, stock_primus: Stock) -> None:
        stock = stock_primus().eval()
        self.check(torch.compile(nn.DataParallel(stock)), stock)
        self.check(nn.DataParallel(torch.compile(stock)), stock)

    def test_distributed(self, stock_primus: Stock) -> None:
        stock = stock_primus().eval()
        dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())
        try:
            self.check(DistributedDataParallel(stock), stock)
        finally:
            dist.destroy_process_group()


class TestPruneOurs:
    @pytest.mark.parametrize("version", [1, 2, 3])
    @pytest.mark.parametrize(
        ("changes", "tokens"),
        [
            ({"spatial_dims": 2, "img_size": (24, 40), "patch_size": (4, 8)}, 30),
            ({"img_size": (8, 16, 16), "patch_size": (1, 4, 4)}, 128),
            ({"img_size": 16, "num_register_tokens": 2, "init_values": None, "scale_attn_inner": False}, 8),
        ],
        ids=["2-D", "flat tokens", "registers"],
    )
    def test_dense(self, small_primus: Build, changes: dict[str, Any], tokens: int, version: int) -> None:
        dense = small_primus(version=version, keep_ratio=1, **changes).eval()
        batch = torch.randn(1, *dense.image_shape)
        assert torch.equal(prune_primus(dense, keep_ratio=1)(batch), dense(batch))
        net = prune_primus(dense, keep_ratio=0.5)
        assert [stage.after_block for stage in net.stages] == [1, 2, 3]
        assert torch.bincount(net.exit_stages(batch).flatten())[0] == tokens // 2
        assert net(batch).shape == dense(batch).shape
        assert list(net.state_dict()) == list(dense.state_dict())

    def test_settings_of_a_completion_that_was_never_built_are_left_out(self, small_primus: Build) -> None:
        dense = small_primus(keep_ratio=1, completion_hidden_size=24, prior=None, sampling="soft_topk", tau=2.0)
        assert primus_arguments_of(dense).keys().isdisjoint({"completion_hidden_size", "prior", "tau", "prune_after"})
        assert prune_primus(dense).prior == "entropy"

    @pytest.mark.parametrize("sampling", ["topk", "prior"])
    def test_that_prunes_already(self, small_primus: Build, sampling: str) -> None:
        net = small_primus(sampling=sampling)
        with pytest.raises(
            ValueError,
            match=r"must keep all tokens; got a SCDPrimus that prunes already, after blocks \[1, 2, 3\]: prune",
        ) as e:
            prune_primus(net, keep_ratio=0.25)
        assert "\n" not in str(e.value)

    def test_what_the_refusal_says_to_do_works(self, small_primus: Build) -> None:
        net = small_primus()
        other = SCDPrimus(**{**net.arguments, "keep_ratio": 0.25})
        other.load_state_dict(net.state_dict())
        assert other.stages[0].keep_ratio == 0.25


class OwnForward(Primus):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * 2


class TestOtherPrimus:
    """What `SCDPrimus` can't be is refused, where its shapes would fit as well as where not."""

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"mlp_ratio": 2.0}, r"another mlp_ratio: eva.blocks.0.mlp.fc1_g is Linear\(.*out_features=96.*=128"),
            (
                {"rope_kwargs": {"temperature": 100}},
                r"rope_kwargs: eva.rope is .*temperature=100, .*temperature=10000,",
            ),
            ({"rope_kwargs": {"grid_offset": 0.5}}, r"rope_kwargs: eva.rope is .*grid_offset=0.5, .*grid_offset=0,"),
            ({"decoder_act": nn.ReLU}, r"decoder_act: up_projection.decode.0.2 is ReLU\(\), where GELU\("),
            ({"decoder_act": partial(nn.GELU, "tanh")}, r"decode.0.2 is GELU\(approximate='tanh'\), where"),
            ({"decoder_norm": nn.BatchNorm3d}, r"decoder_norm or decoder_act: up_projection.decode.0.1 is BatchNorm3d"),
            ({"decoder_norm": nn.InstanceNorm3d}, r"decode.0.1 is InstanceNorm3d\(.*, where LayerNormNd\("),
            (
                {"version": 3, "depth_per_level": (1, 2, 1)},
                r"stages.1.blocks.1 is BasicBlockD, where nothing is needed",
            ),
            (
                {"version": 3, "ch_per_level": (16, 16, 16, 16)},
                r"ch_per_level, .*: down_projection.stem.*Conv3d\(2, 16",
            ),
            ({"version": 3, "add_skips": False}, r"add_skips .*: down_projection.proj_to_tokens is not there, where"),
            (
                {"version": 3, "nonlin": nn.ReLU},
                r"or nonlin: down_projection.stem.* is ReLU\(inplace=True\), where Leaky",
            ),
            (
                {"patch_embed_size": (6, 8, 8), "input_shape": (12, 16, 16)},
                r"patch_size must be a power of two on each",
            ),
        ],
        ids=str,
    )
    def test_refused(self, stock_primus: Stock, changes: dict[str, Any], message: str) -> None:
        with torch.device("meta"):
            stock = stock_primus(**changes)
        with pytest.raises(ValueError, match=message) as e:
            prune_primus(stock)
        assert "\n" not in str(e.value)

    def test_another_forward_pass(self, stock_primus: Stock) -> None:
        stock = stock_primus()
        stock.__class__ = OwnForward
        with pytest.raises(ValueError, match=r"must have Primus's own forward pass; OwnForward has another"):
            prune_primus(stock)
