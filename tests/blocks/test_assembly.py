import pytest
import torch

from scd_plugin.blocks import MaskTokenCompletion, MultiLayerTokenAssembly
from scd_plugin.ops import partition_topk, take_tokens

GRID = (2, 3, 4)


def token_sets() -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]:
    tokens = torch.randn(2, 24, 48)
    order = partition_topk(torch.randn(2, 24), 6)
    idx = [order[:, 6:], order[:, :6]]
    return torch.randn(2, 1, 48), [take_tokens(tokens, part) for part in idx], idx


@pytest.mark.parametrize("width", [48, 32, 52])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_assembly_refills_the_grid(width: int, num_layers: int) -> None:
    assembly = MultiLayerTokenAssembly(
        GRID, 2, hidden_size=48, completion_hidden_size=width, num_layers=num_layers, num_heads=4
    )
    assert assembly(*token_sets()).shape == (2, 24, 48)


@pytest.mark.parametrize("registers", [0, 1, 3])
@pytest.mark.parametrize("kind", [MultiLayerTokenAssembly, MaskTokenCompletion])
def test_any_number_of_tokens_without_a_place(registers: int, kind: type) -> None:
    sizes = {"hidden_size": 48, "completion_hidden_size": 48, "num_heads": 4}
    completion = kind(GRID, 2, **sizes) if kind is MultiLayerTokenAssembly else kind(GRID, **sizes)
    _, sets, idx = token_sets()
    completed = completion(torch.randn(2, registers, 48), sets, idx)
    assert completed.shape == (2, 24, 48)
    # they take part in attention
    if registers:
        assert not torch.allclose(completed, completion(torch.randn(2, registers, 48), sets, idx))


def test_order_within_a_set_does_not_matter() -> None:
    assembly = MultiLayerTokenAssembly(GRID, 2, hidden_size=48, completion_hidden_size=48, num_heads=4)
    cls, sets, idx = token_sets()
    shuffled = torch.randperm(18)
    turned = assembly(cls, [sets[0][:, shuffled], sets[1]], [idx[0][:, shuffled], idx[1]])
    torch.testing.assert_close(turned, assembly(cls, sets, idx))


@pytest.mark.parametrize("num_layers", [1, 2])
def test_attention_to_kept_tokens(num_layers: int) -> None:
    assembly = MultiLayerTokenAssembly(
        GRID, 2, hidden_size=48, completion_hidden_size=48, num_heads=4, num_layers=num_layers, attend_kept=True
    )
    cls, sets, idx = token_sets()
    before = assembly(cls, sets, idx)
    sets[0][:, 5] += 1
    differs = (before != assembly(cls, sets, idx)).any(dim=2)
    # the one that changed is seen where it stands
    assert [row.nonzero().flatten().tolist() for row in differs] == [[int(row[5])] for row in idx[0]]
    sets[1][:, 2] += 1
    assert (before != assembly(cls, sets, idx)).any(dim=2).all()
    assert (before != assembly(cls + 1, sets, idx)).any(dim=2).all()


def test_depth_of_leaving_is_marked() -> None:
    assembly = MultiLayerTokenAssembly(GRID, 2, hidden_size=48, completion_hidden_size=48, num_heads=4)
    before = assembly(*(inputs := token_sets()))
    with torch.no_grad():
        assembly.layer_embed[0] += 1.0
    assert not torch.allclose(before, assembly(*inputs))


def test_mask_tokens_ignore_what_was_pruned() -> None:
    completion = MaskTokenCompletion(GRID, hidden_size=48, completion_hidden_size=48, num_heads=4)
    cls, sets, idx = token_sets()
    torch.testing.assert_close(
        completion(cls, [torch.full_like(sets[0], 9.0), sets[1]], idx), completion(cls, sets, idx)
    )


def test_positions_are_not_part_of_a_checkpoint() -> None:
    assembly = MultiLayerTokenAssembly(GRID, 2, hidden_size=48, completion_hidden_size=48, num_heads=4)
    assert not [name for name in assembly.state_dict() if "pos_embed" in name]
