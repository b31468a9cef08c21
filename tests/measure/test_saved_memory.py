from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from scd_plugin import SCDUNETR
from scd_plugin.measure.saved_memory import saved_bytes

SHAPE = (1, 1, 32, 32, 32)


def build(keep_ratio: float) -> SCDUNETR:
    return SCDUNETR(1, 3, 32, 4, 48, 192, 3, patch_size=4, num_layers=6, prune_after=(2, 4), keep_ratio=keep_ratio)


def really_saved(network: nn.Module) -> int:
    storages = {}
    parameters = {parameter.data_ptr() for parameter in network.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in parameters:
            storages[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(torch.randn(*SHAPE))
    return sum(storage.nbytes() for storage in storages.values())


def test_parameters_are_not_counted() -> None:
    # what a linear layer keeps is its input alone
    assert saved_bytes(lambda: nn.Linear(1000, 10), (2, 3, 1000)) == 2 * 3 * 1000 * 4
    assert saved_bytes(lambda: nn.Conv3d(1, 100, 3), (1, 1, 8, 8, 8)) == 8**3 * 4


def test_grows_with_the_batch() -> None:
    one, three = (saved_bytes(lambda: build(0.25), (samples, *SHAPE[1:])) for samples in (1, 3))
    assert three == pytest.approx(3 * one, rel=1e-3)


@pytest.mark.parametrize("keep_ratio", [0.25, 1])
def test_agrees_with_what_the_cpu_keeps(keep_ratio: float) -> None:
    assert saved_bytes(lambda: build(keep_ratio), SHAPE) == pytest.approx(really_saved(build(keep_ratio)), rel=0.01)


def test_pruning_saves_memory() -> None:
    sparse, dense = (saved_bytes(lambda ratio=ratio: build(ratio), SHAPE) for ratio in (0.25, 1))
    assert sparse < 0.9 * dense
