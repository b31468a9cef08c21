from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from scd_plugin import SCDUNETR
from scd_plugin.networks.memory import saved_bytes

SHAPE = (1, 1, 32, 32, 32)


def build(keep_ratio: float) -> SCDUNETR:
    return SCDUNETR(1, 3, 32, 4, 48, 192, 3, patch_size=4, num_layers=6, prune_after=(2, 4), keep_ratio=keep_ratio)


def really_saved(network: nn.Module) -> int:
    storages = {}

    def keep(tensor: Tensor) -> Tensor:
        if not (tensor.is_leaf and tensor.requires_grad):
            storages[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(torch.randn(*SHAPE))
    return sum(storage.nbytes() for storage in storages.values())


@pytest.mark.parametrize("keep_ratio", [0.25, 1])
def test_agrees_with_what_the_cpu_keeps(keep_ratio: float) -> None:
    assert saved_bytes(lambda: build(keep_ratio), SHAPE) == pytest.approx(really_saved(build(keep_ratio)), rel=0.01)


def test_pruning_saves_memory() -> None:
    sparse, dense = (saved_bytes(lambda ratio=ratio: build(ratio), SHAPE) for ratio in (0.25, 1))
    assert sparse < 0.9 * dense
