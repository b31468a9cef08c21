from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from scd_plugin.bench.bench_settings import NAMED, BenchSettings
from scd_plugin.bench.contestants import parse_contestant
from scd_plugin.bench.parts import OTHER, PART_NAMES, part_shares

# SwinUNETR halves its crop six times
CROP = (32, 32, 64)
SETTING = BenchSettings(name="quick", **{**NAMED["quick"], "crop": CROP})
SMALL = ("scd:size=tiny", "dense:size=tiny", "unetr:hidden_size=48,mlp_dim=96,num_heads=4", "swinunetr:feature_size=12")


def parts_of(contestant: str) -> tuple[nn.Module, dict[str, list[nn.Module]]]:
    read = parse_contestant(contestant)
    network = read.build(SETTING)
    return network, {part: list(modules) for part, modules in read.parts(network).items()}


@pytest.mark.parametrize("contestant", SMALL)
def test_parts_run_and_not_inside_each_other(contestant: str) -> None:
    network, parts = parts_of(contestant)
    assert set(parts) <= set(PART_NAMES)
    running: list[nn.Module] = []
    done: list[nn.Module] = []

    def enter(module: nn.Module, _: object) -> None:
        assert not running
        running.append(module)

    def leave(*_: object) -> None:
        done.append(running.pop())

    everything = [module for modules in parts.values() for module in modules]
    for module in everything:
        module.register_forward_pre_hook(enter)
        module.register_forward_hook(leave)
    with torch.inference_mode():
        network.eval()(torch.zeros(1, 1, *CROP))
    assert len(done) >= len(everything)
    assert set(done) == set(everything)
    # what is in no part holds next to nothing: CLS, positions
    inside = {parameter for module in everything for parameter in module.parameters()}
    held = sum(parameter.numel() for parameter in inside)
    assert held > 0.95 * sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("contestant", ["primus-s", "primusv3-s", "scd-primus-s", "nnunet", "resenc-l"])
def test_parts_of_nnunets_networks(contestant: str) -> None:
    test_parts_run_and_not_inside_each_other(contestant)


def test_encoder_is_cut_at_its_first_pruning() -> None:
    network, parts = parts_of("scd:size=tiny,prune_after=3x5x6")
    encoder = network.encoder
    assert isinstance(encoder, nn.Module)
    assert parts["before pruning"] == list(encoder.blocks)[:3]  # type: ignore[arg-type]
    assert list(encoder.blocks)[3] in parts["after pruning"]  # type: ignore[arg-type]
    assert "encoder" not in parts


def test_blocks_of_primus_are_cut_at_its_first_pruning() -> None:
    network, parts = parts_of("scd-primus-s:num_layers=4,hidden_size=72,num_heads=3,prune_after=3x")
    blocks = list(network.eva.blocks)  # type: ignore[union-attr, arg-type]
    assert list(parts) == ["tokenizer", "before pruning", "after pruning", "completion", "decoder"]
    assert parts["before pruning"] == blocks[:3]
    assert parts["after pruning"] == [*network.stages, blocks[3]]  # type: ignore[misc]
    assert parts["completion"] == [network.completion]


def test_primus_that_keeps_all_is_one_part() -> None:
    _, parts = parts_of("scd-primus-s:num_layers=4,hidden_size=72,num_heads=3,keep_ratio=1")
    assert list(parts) == ["tokenizer", "encoder", "decoder"]


def test_dense_encoder_is_one_part() -> None:
    _, parts = parts_of("dense:size=tiny")
    assert list(parts) == ["tokenizer", "encoder", "decoder"]


def test_shares_add_up_and_hooks_are_gone() -> None:
    network = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    shares = part_shares(
        lambda: network(torch.zeros(1, 8)), {"encoder": [network[0]], "decoder": [network[2]]}, cuda=False
    )
    assert list(shares) == ["encoder", "decoder", OTHER]
    assert sum(shares.values()) == pytest.approx(1)
    assert all(share > 0 for share in shares.values())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network)


def test_shares_of_a_gpu_are_those_of_its_own_clock(fake_events: Callable[[float], None]) -> None:
    class Slow(nn.Module):
        def __init__(self, seconds: float) -> None:
            super().__init__()
            self.seconds = seconds

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            fake_events(self.seconds)
            return image

    encoder, between, decoder = Slow(3), Slow(1), Slow(4)
    network = nn.Sequential(encoder, between, decoder, encoder)
    shares = part_shares(
        lambda: network(torch.zeros(1)), {"encoder": [encoder], "completion": [], "decoder": [decoder]}, cuda=True
    )
    assert shares == {
        "encoder": pytest.approx(6 / 11),
        "completion": 0,
        "decoder": pytest.approx(4 / 11),
        OTHER: pytest.approx(1 / 11),
    }


def test_hooks_are_gone_after_a_failure_too() -> None:
    layer = nn.Linear(8, 8)
    with pytest.raises(RuntimeError, match="shapes"):
        part_shares(lambda: layer(torch.zeros(1, 9)), {"encoder": [layer]}, cuda=False)
    assert not layer._forward_hooks
