import pytest
import torch

from scd_plugin.ops import exit_stages, partition_topk, restore_tokens, take_tokens
from scd_plugin.ops.tokens import coarse_cells


def test_taking_and_restoring_gives_the_sequence_back() -> None:
    tokens = torch.randn(3, 20, 4)
    order = partition_topk(torch.randn(3, 20), 7)
    sets, places = [take_tokens(tokens, order[:, 7:]), take_tokens(tokens, order[:, :7])], [order[:, 7:], order[:, :7]]
    assert torch.equal(restore_tokens(sets, places), tokens)


def test_exit_stages_say_which_set_holds_each_place() -> None:
    places = [torch.tensor([[0, 3], [1, 2]]), torch.tensor([[1], [3]]), torch.tensor([[2], [0]])]
    assert exit_stages(places).tolist() == [[0, 1, 2, 0], [2, 0, 0, 1]]


def test_sets_and_indices_must_match() -> None:
    with pytest.raises(ValueError, match="one index tensor per token set; got 1 sets and 2"):
        restore_tokens([torch.zeros(1, 2, 3)], [torch.zeros(1, 2).long(), torch.zeros(1, 2).long()])


def test_coarse_cells_of_an_odd_grid() -> None:
    assert coarse_cells((2, 5), 2).tolist() == [0, 0, 1, 1, 2, 0, 0, 1, 1, 2]
    cells = coarse_cells((3, 4, 2), 2)
    assert cells.reshape(3, 4, 2)[:, :, 0].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3]]
    assert cells.bincount().tolist() == [8, 8, 4, 4]
