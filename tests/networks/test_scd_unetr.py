from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from monai.networks.nets import UNETR

import scd_plugin
from scd_plugin import SCDUNETR
from scd_plugin.blocks import pruning

Build = Callable[..., SCDUNETR]


class TestShapes:
    @pytest.mark.parametrize(
        ("img_size", "patch_size"),
        [
            (32, 8),
            (16, 4),
            (32, 16),
            ((40, 56, 40), 8),
            ((20, 32, 24), (4, 8, 8)),
            ((5, 32, 24), (1, 8, 8)),
            ((24, 16, 40), (8, 8, 4)),
            ((36, 24, 24), (12, 8, 6)),
        ],
        ids=str,
    )
    @pytest.mark.parametrize("keep_ratio", [0.5, 1])
    def test_3d(self, small: Build, img_size: Any, patch_size: Any, keep_ratio: float) -> None:
        net = small(img_size=img_size, patch_size=patch_size, keep_ratio=keep_ratio)
        size = (img_size,) * 3 if isinstance(img_size, int) else img_size
        assert net(torch.randn(1, 2, *size)).shape == (1, 3, *size)

    @pytest.mark.parametrize(
        ("img_size", "patch_size"), [(64, 8), ((40, 56), 8), ((32, 48), (4, 16)), (16, 4), (48, 16)], ids=str
    )
    def test_2d(self, small: Build, img_size: Any, patch_size: Any) -> None:
        net = small(spatial_dims=2, img_size=img_size, patch_size=patch_size)
        size = (img_size,) * 2 if isinstance(img_size, int) else img_size
        assert net(torch.randn(2, 2, *size)).shape == (2, 3, *size)

    @pytest.mark.parametrize("completion_hidden_size", [None, 24, 52])
    def test_completion_width(self, small: Build, completion_hidden_size: int | None) -> None:
        net = small(completion_hidden_size=completion_hidden_size, completion_num_layers=2, completion_num_heads=2)
        assert net(torch.randn(1, 2, 32, 32, 32)).shape == (1, 3, 32, 32, 32)

    def test_ratio_for_each_stage(self, small: Build) -> None:
        net = small(keep_ratio=(0.75, 1, 0.25)).eval()
        assert [stage.after_block for stage in net.encoder.stages] == [1, 3]
        stages = net.exit_stages(torch.randn(1, 2, 32, 32, 32))
        assert torch.bincount(stages.flatten()).tolist() == [16, 36, 12]


class TestDropIn:
    def test_arguments_of_monai_unetr_in_order(self) -> None:
        theirs = inspect.signature(UNETR.__init__).parameters
        ours = inspect.signature(SCDUNETR.__init__).parameters
        assert list(ours)[: len(theirs)] == list(theirs)
        # the published networks have a bias in their attention, MONAI's UNETR by default has none
        assert [name for name in theirs if ours[name].default != theirs[name].default] == ["qkv_bias"]

    def test_called_as_unetr(self) -> None:
        arguments: dict[str, Any] = {
            "in_channels": 1,
            "out_channels": 4,
            "img_size": (32, 32, 32),
            "feature_size": 4,
            "hidden_size": 48,
            "mlp_dim": 96,
            "num_heads": 4,
            "norm_name": "batch",
            "res_block": False,
            "conv_block": False,
            "dropout_rate": 0.1,
            "qkv_bias": True,
        }
        image = torch.randn(2, 1, 32, 32, 32)
        assert SCDUNETR(**arguments)(image).shape == UNETR(**arguments)(image).shape

    def test_public_names(self) -> None:
        for name in ("SCDUNETR", "SCDPrimus", "load_tokensparse_state_dict", "load_primus_state_dict", "prune_primus"):
            assert name in scd_plugin.__all__
            assert getattr(scd_plugin, name).__name__ == name


class TestTraining:
    @pytest.mark.parametrize("sampling", ["soft_topk", "topk", "random"])
    @pytest.mark.parametrize("completion", ["assembly", "assembly_to_kept", "mask_token"])
    @pytest.mark.parametrize("deep_supervision", [False, True])
    def test_every_parameter_gets_a_gradient(
        self, small: Build, sampling: str, completion: str, deep_supervision: bool
    ) -> None:
        assert_all_learn(small(sampling=sampling, completion=completion, deep_supervision=deep_supervision))

    @pytest.mark.parametrize(
        "changes",
        [
            {"keep_ratio": 1},
            {"keep_ratio": 0.01},
            {"patch_size": 16},
            {"decoder": "light"},
            {"decoder": "subvoxel"},
            {"decoder": "subvoxel", "keep_ratio": 1, "deep_supervision": True},
            {"memory": "tokens"},
            {"memory": "pooled", "keep_ratio": 0.01},
            {"memory": "pooled", "completion": "mask_token", "sampling": "random"},
            {"decoder": "light", "keep_ratio": 1, "deep_supervision": True},
        ],
        ids=str,
    )
    def test_every_parameter_gets_a_gradient_at_the_limits(self, small: Build, changes: dict[str, Any]) -> None:
        assert_all_learn(small(**changes))

    @pytest.mark.parametrize("decoder", ["unetr", "subvoxel"])
    def test_learns(self, small: Build, decoder: str) -> None:
        net = small(img_size=16, patch_size=4, decoder=decoder)
        image = torch.randn(2, 2, 16, 16, 16)
        truth = (image[:, 0] > 0).long() + (image[:, 1] > 0).long()
        optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
        losses = []
        for _ in range(40):
            loss = torch.nn.functional.cross_entropy(net(image), truth)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.65 * losses[0]


def assert_all_learn(net: SCDUNETR) -> None:
    outputs = net(torch.randn(2, 2, 32, 32, 32))
    loss = sum(output.square().mean() for output in (outputs if isinstance(outputs, list) else [outputs]))
    loss.backward()
    without = [name for name, parameter in net.named_parameters() if parameter.grad is None]
    assert without == []
    assert all(torch.isfinite(parameter.grad).all() for parameter in net.parameters())


class TestEvaluation:
    @pytest.mark.parametrize("sampling", ["soft_topk", "topk", "random"])
    def test_does_not_depend_on_the_random_state(self, small: Build, sampling: str) -> None:
        net, image = small(sampling=sampling, dropout_rate=0.1).eval(), torch.randn(1, 2, 32, 32, 32)
        first = net(image)
        torch.manual_seed(77)
        assert torch.equal(net(image), first)

    def test_batch_is_a_loop_over_samples(self, small: Build) -> None:
        net, image = small().eval(), torch.randn(3, 2, 32, 32, 32)
        alone = torch.cat([net(sample.unsqueeze(0)) for sample in image])
        torch.testing.assert_close(net(image), alone, atol=1e-5, rtol=1e-4)

    def test_exit_stages(self, small: Build) -> None:
        net, image = small(img_size=(40, 16, 24)).eval(), torch.randn(2, 2, 40, 16, 24)
        stages = net.exit_stages(image)
        assert stages.shape == (2, 5, 2, 3)
        assert stages.dtype == torch.int64
        assert torch.bincount(stages[0].flatten()).tolist() == [15, 8, 4, 3]
        encoded = net.encoder(image)
        assert torch.equal((stages.flatten(1) == 1).nonzero()[:, 1].reshape(2, -1), encoded.grid_idx[1])

    def test_dense_twin_keeps_everything(self, small: Build) -> None:
        net = small(keep_ratio=1).eval()
        assert net.completion is None
        assert not [name for name, _ in net.named_parameters() if "score" in name]
        assert net.exit_stages(torch.randn(1, 2, 32, 32, 32)).unique().tolist() == [0]

    @pytest.mark.parametrize(("patch_size", "taps"), [(16, (4, 7, 10)), (8, (4, 7, 10)), (4, (5, 9))])
    def test_dense_twin_taps_where_unetr_does(self, patch_size: int, taps: tuple[int, ...]) -> None:
        net = SCDUNETR(1, 2, 32, 4, 48, 96, 4, patch_size=patch_size, keep_ratio=1)
        assert net.encoder.tap_blocks == taps

    def test_flat_background_gives_finite_logits(self, small: Build) -> None:
        net = small()
        for mode in (net.train(), net.eval()):
            assert torch.isfinite(mode(torch.zeros(1, 2, 32, 32, 32))).all()


class TestAutocast:
    @pytest.mark.parametrize("memory", ["none", "tokens", "pooled"])
    def test_bfloat16_trains(self, small: Build, memory: str) -> None:
        net = small(memory=memory)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = net(torch.randn(1, 2, 32, 32, 32))
        logits.float().square().mean().backward()
        assert all(torch.isfinite(parameter.grad).all() for parameter in net.parameters())

    @pytest.mark.parametrize(
        ("training", "called"),
        [(True, ["gumbel_noise_like", "partition_topk", "straight_through"]), (False, ["partition_topk"])],
        ids=["train", "eval"],
    )
    def test_selection_runs_in_float32(
        self, small: Build, monkeypatch: pytest.MonkeyPatch, training: bool, called: list[str]
    ) -> None:
        seen = []

        def spied(name: str) -> Callable[..., torch.Tensor]:
            original = getattr(pruning, name)

            def spy(scores: torch.Tensor, *arguments: Any) -> torch.Tensor:
                result = original(scores, *arguments)
                # places are integers, all else is float32
                seen.append((name, scores.dtype, result.dtype))
                return result

            return spy

        for name in ("gumbel_noise_like", "partition_topk", "straight_through"):
            monkeypatch.setattr(pruning, name, spied(name))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            small().train(training)(torch.randn(1, 2, 32, 32, 32))
        results = {"partition_topk": torch.int64}
        assert seen == [(name, torch.float32, results.get(name, torch.float32)) for name in called] * 3


class TestBadInput:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"patch_size": 7}, r"patch_size \(7, 7, 7\) does not divide .* token patch that divides 32 is 8"),
            ({"patch_size": (8, 8)}, r"patch_size must be one positive int, or 3 of them .*got \(8, 8\)"),
            ({"img_size": 0}, "img_size must be one positive int.*got 0"),
            ({"patch_size": 1}, r"patch_size must be larger than 1 on at least one axis; got \(1, 1, 1\)"),
            ({"decoder": "lite"}, "decoder must be one of unetr, light, subvoxel; got 'lite'"),
            ({"keep_ratio": 0.0}, r"keep_ratio must be in \(0, 1\].*got 0.0"),
            ({"keep_ratio": 1.5}, r"keep_ratio must be in \(0, 1\].*got 1.5"),
            ({"keep_ratio": (0.5, 0.5)}, r"one for each stage of prune_after \(1, 2, 3\); got \(0.5, 0.5\)"),
            ({"prune_after": (1, 2, 5)}, r"prune_after must be .* in \[1, 4\].*got \(1, 2, 5\)"),
            ({"prune_after": (0, 2)}, r"prune_after must be .*got \(0, 2\)"),
            ({"prune_after": (3, 2)}, r"prune_after must be ascending.*got \(3, 2\)"),
            ({"prune_after": (2, 2)}, r"prune_after must be ascending.*got \(2, 2\)"),
            ({"hidden_size": 50}, "hidden_size must be divisible by num_heads; got hidden_size 50 and num_heads 4"),
            ({"hidden_size": 50, "num_heads": 5}, "hidden_size must be a multiple of 4 .*got 50"),
            ({"completion_hidden_size": 4}, "completion_hidden_size must be at least 6 .* got 4"),
            ({"completion": "mae"}, "completion must be one of assembly, assembly_to_kept, mask_token; got 'mae'"),
            ({"memory": "frozen"}, "memory must be one of none, tokens, pooled; got 'frozen'"),
            ({"sampling": "top_k"}, "sampling must be one of soft_topk, topk, random; got 'top_k'"),
            ({"tau": -1.0}, "tau must be positive.*got -1.0"),
            ({"tau": "1"}, "tau must be positive.*got '1'"),
            ({"dropout_rate": "0.1"}, r"dropout_rate must be in \[0, 1\); got '0.1'"),
            ({"strides": 2}, r"strides must be a list of steps, finest first, such as \[2, 2, 2\]; got 2"),
            ({"keep_ratio": True}, r"keep_ratio must be in \(0, 1\].*got True"),
            ({"keep_ratio": np.array(1.5)}, r"keep_ratio must be in \(0, 1\].*got 1.5"),
            ({"spatial_dims": 4}, "spatial_dims must be one of 2, 3; got 4"),
            ({"proj_type": "perceptron"}, "proj_type must be 'conv'.*got 'perceptron'"),
            ({"save_attn": True}, "save_attn must be False.*got True"),
            ({"dropout_rate": 1.5}, r"dropout_rate must be in \[0, 1\); got 1.5"),
            ({"drop_path_rate": -0.1}, r"drop_path_rate must be in \[0, 1\); got -0.1"),
            ({"num_layers": 0, "prune_after": ()}, "num_layers must be an int of at least 1; got 0"),
            ({"in_channels": 0}, "in_channels must be an int of at least 1; got 0"),
            ({"out_channels": 0}, "out_channels must be an int of at least 1; got 0"),
            ({"feature_size": 0}, "feature_size must be an int of at least 1; got 0"),
            ({"hidden_size": 0}, "hidden_size must be an int of at least 1; got 0"),
            ({"hidden_size": 48.0}, "hidden_size must be an int of at least 1; got 48.0"),
            ({"mlp_dim": 0}, "mlp_dim must be an int of at least 1; got 0"),
            ({"num_heads": 0}, "num_heads must be an int of at least 1; got 0"),
            ({"completion_hidden_size": 0}, "completion_hidden_size must be an int of at least 1; got 0"),
            ({"completion_num_heads": 0}, "completion_num_heads must be an int of at least 1; got 0"),
            ({"completion_num_layers": 0}, "completion_num_layers must be an int of at least 1; got 0"),
            (
                {"completion_num_layers": 0, "completion": "assembly_to_kept"},
                "completion_num_layers must be an int of at least 1; got 0",
            ),
            ({"prune_after": 3}, r"prune_after must be ascending .* \(1,\) for a single one; got 3"),
            ({"prune_after": (1.5, 2, 3)}, r"prune_after must be ascending .*got \(1.5, 2, 3\)"),
            ({"keep_ratio": "0.5"}, r"keep_ratio must be in \(0, 1\].*one number or one for each stage; got '0.5'"),
            ({"keep_ratio": None}, r"keep_ratio must be in \(0, 1\].*got None"),
            ({"img_size": "32"}, "img_size must be one positive int, or 3 of them .*got 32"),
            ({"img_size": 8}, r"img_size must hold at least 2 tokens; got \(8, 8, 8\) with patch_size \(8, 8, 8\)"),
            ({"img_size": 31}, "token patch that divides 31 is 31;"),
            ({"pool_stride": (2, 2)}, r"pool_stride must be one positive int, or 3 of them .*got \(2, 2\)"),
            ({"strides": [(2, 2)] * 3}, r"each of strides must be one positive int, or 3 of them .*got \(2, 2\)"),
            ({"keep_ratio": 1, "completion": "mae"}, "completion must be one of .*got 'mae'"),
            ({"keep_ratio": 1, "sampling": "x"}, "sampling must be one of .*got 'x'"),
            ({"keep_ratio": 1, "tau": -1}, "tau must be positive.*got -1"),
            (
                {"completion_hidden_size": 50},
                "completion_hidden_size must be divisible by num_heads.*got 50 and 4. The next .* that fits is 52",
            ),
            (
                {"completion_num_heads": 5},
                "hidden_size must be divisible by completion_num_heads.*got 48 and 5. .*size that fits is 50",
            ),
            (
                {"decoder": "subvoxel", "strides": [(1, 1, 1), *[(2, 2, 2)] * 3]},
                r"the first of strides must be 2 or more on some axis for decoder subvoxel; got \(1, 1, 1\)",
            ),
            ({"strides": [(2, 2, 2)] * 2}, r"strides must multiply to patch_size \(8, 8, 8\); .*make \(4, 4, 4\)"),
        ],
        ids=str,
    )
    def test_settings(self, small: Build, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            small(**changes)

    @pytest.mark.parametrize(
        "changes",
        [
            {"img_size": np.int64(32)},
            {"keep_ratio": np.array(0.5)},
            {"keep_ratio": torch.tensor(0.5)},
            {"img_size": 32.0},
            {"patch_size": np.array([8, 8, 8])},
            {"keep_ratio": [0.5, 0.5, 0.5]},
            {"keep_ratio": np.array([0.5, 0.5, 0.5])},
            {"keep_ratio": np.float32(0.5)},
            {"prune_after": np.array([1, 2, 3])},
        ],
        ids=str,
    )
    def test_other_types_give_the_same_network(self, small: Build, changes: dict[str, Any]) -> None:
        net, plain = small(**changes), small()
        assert net.image_shape == plain.image_shape == [2, 32, 32, 32]
        assert all(type(size) is int for size in net.image_shape)
        assert [stage.extra_repr() for stage in net.encoder.stages] == [s.extra_repr() for s in plain.encoder.stages]
        shapes = [{name: value.shape for name, value in n.state_dict().items()} for n in (net, plain)]
        assert shapes[0] == shapes[1]

    @pytest.mark.parametrize(
        "shape", [(1, 1, 32, 32, 32), (1, 2, 32, 32, 24), (2, 32, 32, 32), (1, 2, 32, 32)], ids=str
    )
    def test_image(self, small: Build, shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match=r"image must have shape \(B, 2, 32, 32, 32\).*got \[" + str(shape[0])):
            small()(torch.zeros(shape))
