from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from scd_plugin import SCDPrimus, load_primus_state_dict, prune_primus
from scd_plugin.networks.primus_checkpoints import NEW_PARTS, primus_arguments_of

Build = Callable[..., SCDPrimus]
Stock = Callable[..., nn.Module]


class TestStateDict:
    @pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
    def test_shared_parameters_are_loaded_and_new_ones_keep_their_start(
        self, small_primus: Build, stock_primus: Stock, prefix: str
    ) -> None:
        stock, net = stock_primus(), small_primus()
        before = {name: value.clone() for name, value in net.state_dict().items()}
        load_primus_state_dict(net, {prefix + name: value for name, value in stock.state_dict().items()})
        wanted = stock.state_dict()
        for name, value in net.state_dict().items():
            new = name.startswith(NEW_PARTS)
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
        ],
        ids=str,
    )
    def test_keeping_all_changes_nothing(self, stock_primus: Stock, changes: dict[str, Any]) -> None:
        stock = stock_primus(**changes).eval()
        net = prune_primus(stock, keep_ratio=1)
        assert not net.training
        batch = torch.randn(1, *net.image_shape)
        torch.testing.assert_close(net(batch), stock(batch), atol=1e-6, rtol=0)

    @pytest.mark.parametrize(("eva_depth", "expected"), [(12, [3, 6, 9]), (16, [4, 8, 12]), (2, [1]), (1, [])])
    def test_quarters_of_the_depth_by_default(self, stock_primus: Stock, eva_depth: int, expected: list[int]) -> None:
        net = prune_primus(stock_primus(eva_depth=eva_depth), keep_ratio=0.5)
        assert [stage.after_block for stage in net.stages] == expected

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

    def test_other_networks_are_refused(self, stock_primus: Stock) -> None:
        with pytest.raises(ValueError, match=r"primus must be a Primus, PrimusV2 or PrimusV3 .*got Linear"):
            prune_primus(nn.Linear(1, 1))
        with pytest.raises(ValueError, match=r"with learned and rotary positions; got Primus"):
            prune_primus(stock_primus(use_rot_pos_emb=False))
