"""`-pretrained_weights` for SCD-Primus, through nnU-Net's own function, which the door has put ours in place of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip("nnunetv2")

from nnunetv2.run import run_training

from scd_plugin import SCDPrimus
from scd_plugin.nnunet.trainers.pretrained import grid_of

Build = Callable[..., SCDPrimus]
Stock = Callable[..., nn.Module]
TWO = [2, 2, 2]


def init_args(patch_size: list[int], *strides: list[int]) -> dict[str, Any]:
    configuration = {
        "patch_size": patch_size,
        "architecture": {"arch_kwargs": {"strides": [[1, 1, 1], *(strides or [TWO] * 4)]}},
    }
    plans = {"plans_name": "nnUNetPlans", "configurations": {"3d_fullres": configuration}}
    return {"plans": plans, "configuration": "3d_fullres", "fold": 0}


@pytest.fixture
def load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Writes a checkpoint, loads it into a network and gives back what was printed."""

    def run(network: nn.Module, weights: dict[str, torch.Tensor], **entries: Any) -> str:
        torch.save({"network_weights": weights, **entries}, tmp_path / "c.pth")
        capsys.readouterr()
        run_training.load_pretrained_weights(network, str(tmp_path / "c.pth"))
        return capsys.readouterr().out

    return run


def of_stock(patch_size: list[int]) -> dict[str, Any]:
    return {"init_args": init_args(patch_size), "trainer_name": "nnUNet_Primus_M_Trainer"}


def test_dense_primus(small_primus: Build, stock_primus: Stock, load: Callable[..., str]) -> None:
    net, stock = small_primus(), stock_primus()
    line = load(net, stock.state_dict(), **of_stock([32, 32, 32]))
    assert "adapted: stages start anew, completion start anew" in line
    assert line.count("\n") == 1
    assert torch.equal(net.eva.blocks[2].attn.q_proj.weight, stock.eva.blocks[2].attn.q_proj.weight)


def test_dense_primus_of_another_crop_and_other_classes(
    small_primus: Build, stock_primus: Stock, load: Callable[..., str]
) -> None:
    net, stock = small_primus(), stock_primus(input_shape=(32, 40, 48), num_classes=9)
    decoder = {name: value.clone() for name, value in net.up_projection.state_dict().items()}
    line = load(net, stock.state_dict(), **of_stock([32, 40, 48]))
    assert "positions interpolated from (4, 5, 6) to (4, 4, 4) tokens, decoder starts anew" in line
    assert all(torch.equal(value, decoder[name]) for name, value in net.up_projection.state_dict().items())
    assert torch.equal(net.eva.norm.weight, stock.eva.norm.weight)


@pytest.mark.parametrize("version", [2, 3])
def test_dense_primus_of_another_version(
    small_primus: Build, stock_primus: Stock, load: Callable[..., str], version: int
) -> None:
    net, stock = small_primus(version=version), stock_primus(version, input_shape=(16, 24, 32))
    line = load(net, stock.state_dict(), **of_stock([16, 24, 32]))
    assert "positions interpolated from (2, 3, 4) to (4, 4, 4) tokens, stages start anew, completion start anew" in line
    for name in ("down_projection.stages.2.blocks.0.conv2.conv.weight", "up_projection.decode.2.weight"):
        assert torch.equal(net.get_parameter(name), stock.get_parameter(name)), name


def test_versions_do_not_fit_each_other(small_primus: Build, stock_primus: Stock, load: Callable[..., str]) -> None:
    with pytest.raises(ValueError, match=r"missing: down_projection.proj_to_tokens.*the same kind, size and version"):
        load(small_primus(version=3), stock_primus(2).state_dict(), **of_stock([32, 32, 32]))


@pytest.mark.parametrize("edge", [4, 8, (4, 8, 8)], ids=str)
def test_grid_follows_from_the_tokens_of_the_weights(small_primus: Build, edge: Any) -> None:
    # by these plans a token is (4, 16, 16)
    plans = [[1, 2, 2], [1, 2, 2], *[TWO] * 2]
    with torch.device("meta"):
        net = small_primus(img_size=(16, 320, 320), patch_size=edge, num_register_tokens=2)
    checkpoint = {"network_weights": net.state_dict(), "init_args": init_args([16, 320, 320], *plans)}
    wanted = {4: [4, 80, 80], 8: [2, 40, 40], (4, 8, 8): [4, 40, 40]}
    assert grid_of(checkpoint, net) == wanted[edge]


def test_grid_in_2d(small_primus: Build) -> None:
    net = small_primus(spatial_dims=2, img_size=(24, 40), patch_size=(4, 8))
    wrapped = {f"_orig_mod.module.{name}": value for name, value in net.state_dict().items()}
    assert grid_of({"network_weights": wrapped, "init_args": init_args([24, 40])}, net) == [6, 5]


@pytest.mark.parametrize(
    ("given", "grid"),
    [
        ({"init_args": None}, [4, 4, 4]),
        ({"init_args": {"plans": {}, "configuration": "3d_fullres"}}, None),
        ({"init_args": {"plans": init_args([32, 32, 32])["plans"], "configuration": "3d_lowres"}}, None),
        ({"init_args": {"plans": None}}, None),
    ],
    ids=["none", "plans of nothing", "another configuration", "no plans"],
)
def test_checkpoint_that_does_not_tell_its_grid(
    small_primus: Build, given: dict[str, Any], grid: list[int] | None
) -> None:
    net = small_primus()
    assert grid_of({"network_weights": net.state_dict(), **given}, net) == grid
    assert grid_of({"network_weights": {net.positions: torch.zeros(4)}}, net) is None


def test_stock_weights_whose_plans_have_no_tokens_for_scd(
    small_primus: Build, stock_primus: Stock, load: Callable[..., str]
) -> None:
    """A crop that the plans' pooling does not divide, as an edited one, and plans that pool nowhere."""
    net, stock = small_primus(), stock_primus(input_shape=(24, 32, 40))
    for strides in ([TWO] * 4, [[1, 1, 1]]):
        plans = init_args([24, 32, 40], *strides)
        line = load(net, stock.state_dict(), init_args=plans, trainer_name="nnUNet_Primus_M_Trainer")
        assert "positions interpolated from (3, 4, 5) to (4, 4, 4) tokens" in line


def test_sparse_weights_with_tokens_of_its_own(small_primus: Build, load: Callable[..., str]) -> None:
    """Trained with scd_patch_size = 4, where the plans would give tokens of 8."""
    source, net = small_primus(img_size=(16, 16, 24), patch_size=4), small_primus(img_size=16, patch_size=4)
    line = load(net, source.state_dict(), init_args=init_args([16, 16, 24]), trainer_name="nnUNetTrainerMine")
    assert "adapted: positions interpolated from (4, 4, 6) to (4, 4, 4) tokens\n" in line


def test_sparse_weights_of_another_crop(small_primus: Build, load: Callable[..., str]) -> None:
    source, net = small_primus(img_size=(64, 64, 64)), small_primus()
    line = load(net, source.state_dict(), init_args=init_args([64] * 3), trainer_name="nnUNetTrainerSCDPrimusM")
    assert "adapted: positions interpolated from (8, 8, 8) to (4, 4, 4) tokens\n" in line
    score = "stages.1.score.project.weight"
    assert torch.equal(net.get_parameter(score), source.get_parameter(score))


def test_sparse_weights_into_the_dense_network(small_primus: Build, load: Callable[..., str]) -> None:
    net, source = small_primus(keep_ratio=1), small_primus()
    line = load(net, source.state_dict(), init_args=init_args([32] * 3), trainer_name="nnUNetTrainerSCDPrimusM")
    assert "stages left out, completion left out" in line


def test_checkpoint_of_masked_pretraining(small_primus: Build, stock_primus: Stock, load: Callable[..., str]) -> None:
    """As nnssl writes it: no plans of nnU-Net, a cubic crop, and a decoder that gives back the image."""
    net, source = small_primus(), stock_primus(input_shape=(40, 40, 40), num_classes=2)
    line = load(
        net, source.state_dict(), trainer_name="BaseMAETrainer", nnssl_adaptation_plan={"key_to_encoder": "eva"}
    )
    assert "positions interpolated from (5, 5, 5) to (4, 4, 4) tokens, decoder starts anew, stages start anew" in line


def test_pretraining_with_register_tokens(small_primus: Build, stock_primus: Stock, load: Callable[..., str]) -> None:
    net, source = small_primus(num_register_tokens=3), stock_primus(input_shape=(40, 40, 40), num_register_tokens=3)
    line = load(net, source.state_dict(), trainer_name="BaseMAETrainer")
    assert "positions interpolated from (5, 5, 5) to (4, 4, 4) tokens" in line
    # registers come first, and stay
    assert torch.equal(net.eva.pos_embed[:, :3], source.eva.pos_embed[:, :3])


def test_positions_of_no_cube_are_refused(small_primus: Build, stock_primus: Stock, load: Callable[..., str]) -> None:
    weights = stock_primus(input_shape=(32, 32, 40)).state_dict()
    with pytest.raises(ValueError, match=r"wrong shape: eva.pos_embed \(1, 80, 48\) instead of \(1, 64, 48\)"):
        load(small_primus(), weights, trainer_name="BaseMAETrainer")


@pytest.mark.parametrize("version", [1, 2, 3])
def test_another_token_size_is_refused(
    small_primus: Build, stock_primus: Stock, load: Callable[..., str], version: int
) -> None:
    """The stems of versions 2 and 3 would take the weights."""
    net = small_primus(img_size=(16, 32, 32), patch_size=(4, 8, 8), version=version)
    with pytest.raises(
        ValueError,
        match=r"of trainer nnUNet_Primus_M_Trainer do not fit .*: tokens of \(8, 8, 8\) voxels instead of "
        r"\(4, 8, 8\)\. .*scd_patch_size = 8",
    ) as e:
        load(net, stock_primus(version).state_dict(), **of_stock([32, 32, 32]))
    assert "\n" not in str(e.value)


def test_other_stages_are_refused(small_primus: Build, load: Callable[..., str]) -> None:
    source = small_primus(prune_after=(1, 2))
    with pytest.raises(ValueError, match=r"missing: completion.project.3.bias.*wrong shape: completion"):
        load(small_primus(), source.state_dict(), init_args=init_args([32] * 3), trainer_name="nnUNetTrainerSCDPrimusM")
