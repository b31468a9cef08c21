"""Attention to what left: equal to attention over the tokens written out, and blind to cells that hold nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from scd_plugin.blocks import transformer_blocks
from scd_plugin.blocks.memory import PooledMemory, TokenMemory, build_memory
from scd_plugin.blocks.transformer import Memory, MemoryBlock


def block_pair(**changes: bool) -> tuple[torch.nn.Module, torch.nn.Module]:
    """A plain block and one with memory, of the same weights."""
    sizes = {"hidden_size": 24, "mlp_dim": 48, "num_heads": 2}
    plain = transformer_blocks(1, **sizes, **changes)[0]  # type: ignore[arg-type]
    ours = transformer_blocks(1, **sizes, **changes, memory=True)[0]  # type: ignore[arg-type]
    assert isinstance(ours, MemoryBlock)
    ours.load_state_dict(plain.state_dict())
    return plain, ours


@pytest.mark.parametrize("qkv_bias", [True, False])
class TestMemoryBlock:
    def test_without_memory_it_is_the_plain_block(self, qkv_bias: bool) -> None:
        plain, ours = block_pair(qkv_bias=qkv_bias)
        x = torch.randn(2, 5, 24)
        torch.testing.assert_close(ours(x, None), plain(x))

    def test_with_memory_it_is_the_plain_block_of_all_tokens(self, qkv_bias: bool) -> None:
        plain, ours = block_pair(qkv_bias=qkv_bias)
        x, left = torch.randn(2, 5, 24), torch.randn(2, 7, 24)
        torch.testing.assert_close(ours(x, Memory(left, None)), plain(torch.cat((x, left), dim=1))[:, :5])

    def test_size_is_a_number_of_equal_tokens(self, qkv_bias: bool) -> None:
        _, ours = block_pair(qkv_bias=qkv_bias)
        x, left = torch.randn(1, 5, 24), torch.randn(1, 3, 24)
        written_out = left.repeat_interleave(torch.tensor([4, 0, 2]), dim=1)
        summed = Memory(left, torch.tensor([[4.0, 0.0, 2.0]]))
        torch.testing.assert_close(ours(x, summed), ours(x, Memory(written_out, None)))


def assert_same_as_loop(memory: Memory, left: Tensor, places: Tensor, cells: Tensor) -> None:
    expected = torch.zeros_like(memory.tokens)
    counts = torch.zeros(memory.tokens.shape[:2])
    for sample in range(len(left)):
        for token, place in zip(left[sample], places[sample]):
            expected[sample, cells[place]] += token
            counts[sample, cells[place]] += 1
    torch.testing.assert_close(memory.tokens, expected)
    assert memory.size is not None
    assert torch.equal(memory.size, counts)


class TestMemory:
    def test_tokens_of_all_stages(self) -> None:
        remember, first, second = TokenMemory(), torch.randn(2, 6, 8), torch.randn(2, 3, 8)
        memory = remember(remember(None, first, torch.zeros(2, 6).long()), second, torch.zeros(2, 3).long())
        assert torch.equal(memory.tokens, torch.cat((first, second), dim=1))
        assert memory.size is None

    @pytest.mark.parametrize("grid", [(4, 6), (3, 4, 5)], ids=str)
    def test_cells_of_all_stages(self, grid: tuple[int, ...]) -> None:
        remember = PooledMemory(grid)
        order = torch.stack([torch.randperm(len(remember.cell_idx)) for _ in range(2)])
        left = torch.randn(2, 15, 8)
        memory = remember(remember(None, left[:, :10], order[:, :10]), left[:, 10:], order[:, 10:15])
        assert memory.tokens.shape[1] == remember.num_cells
        assert_same_as_loop(memory, left, order[:, :15], remember.cell_idx)

    def test_empty_cells_give_finite_gradients(self) -> None:
        _, block = block_pair()
        left = torch.randn(1, 2, 24, requires_grad=True)
        memory = PooledMemory((4, 4))(None, left, torch.tensor([[0, 1]]))
        assert memory.size is not None
        assert memory.size.tolist() == [[2, 0, 0, 0]]
        block(torch.randn(1, 3, 24), memory).square().sum().backward()
        assert left.grad is not None
        assert torch.isfinite(left.grad).all()
        assert left.grad.abs().min() > 0
        assert all(torch.isfinite(parameter.grad).all() for parameter in block.parameters())

    def test_number_of_cells_without_their_numbers(self) -> None:
        with torch.device("meta"):
            assert PooledMemory((3, 4, 5)).num_cells == 2 * 2 * 3
        assert PooledMemory((3, 4, 5)).cell_idx.max() == 2 * 2 * 3 - 1

    def test_none(self) -> None:
        assert build_memory("none", (4, 4)) is None
