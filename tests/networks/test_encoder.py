import pytest
import torch

from scd_plugin.blocks.pruning import PrunedTokens
from scd_plugin.networks import SparseViT


def encoder(**changes: object) -> SparseViT:
    sizes: dict[str, object] = {"hidden_size": 48, "mlp_dim": 96, "num_layers": 4, "num_heads": 4}
    stages: dict[str, object] = {"prune_after": (1, 2, 3), "keep_ratios": (0.5, 0.5, 0.5)}
    return SparseViT(1, (32, 32, 32), (8, 8, 8), **{**sizes, **stages, **changes})  # type: ignore[arg-type]


def test_every_token_leaves_exactly_once() -> None:
    encoded = encoder()(torch.randn(2, 1, 32, 32, 32))
    assert [tuple(tokens.shape) for tokens in encoded.token_sets] == [(2, k, 48) for k in (32, 16, 8, 8)]
    assert [tuple(idx.shape) for idx in encoded.grid_idx] == [(2, k) for k in (32, 16, 8, 8)]
    assert torch.equal(torch.cat(encoded.grid_idx, dim=1).sort(dim=1).values, torch.arange(64).expand(2, -1))
    assert all((idx.diff(dim=1) > 0).all() for idx in encoded.grid_idx)
    assert encoded.prefix.shape == (2, 1, 48)


def test_dense_encoder_gives_its_taps() -> None:
    encoded = encoder(prune_after=(), keep_ratios=(), tap_blocks=(2, 3))(torch.randn(2, 1, 32, 32, 32))
    assert [tuple(tokens.shape) for tokens in encoded.hidden_states] == [(2, 64, 48)] * 2
    assert [tuple(tokens.shape) for tokens in encoded.token_sets] == [(2, 64, 48)]
    assert len(encoder().stages) == 3
    assert len(encoder(prune_after=(), keep_ratios=()).stages) == 0


def test_stochastic_depth_and_dropout_rest_in_evaluation() -> None:
    net = encoder(drop_path_rate=0.5, dropout_rate=0.5).eval()
    image = torch.randn(1, 1, 32, 32, 32)
    assert torch.equal(net(image).token_sets[3], net(image).token_sets[3])


@pytest.mark.parametrize("keep", [0.1, 0.01])
def test_keeps_at_least_one_token(keep: float) -> None:
    encoded = encoder(keep_ratios=(keep,) * 3)(torch.randn(1, 1, 32, 32, 32))
    assert encoded.grid_idx[-1].shape == (1, 1)


def survivors_after_change(net: SparseViT, change: float) -> torch.Tensor:
    """The survivors of an image where the tokens that leave first are changed as they leave."""

    def hook(*arguments: object) -> PrunedTokens:
        pruned = arguments[-1]
        assert isinstance(pruned, PrunedTokens)
        shift = change * torch.linspace(-1, 1, pruned.left_raw.shape[-1])
        return pruned._replace(left_raw=pruned.left_raw + shift)

    handle = net.stages[0].register_forward_hook(hook)
    survivors: torch.Tensor = net(torch.ones(1, 1, 32, 32, 32)).token_sets[-1]
    handle.remove()
    return survivors


@pytest.mark.parametrize(("memory", "seen"), [("none", False), ("tokens", True), ("pooled", True)])
def test_survivors_see_what_left(memory: str, seen: bool) -> None:
    net = encoder(memory=memory, prune_after=(1,), keep_ratios=(0.5,)).eval()
    with torch.no_grad():
        differ = (survivors_after_change(net, 0.0) - survivors_after_change(net, 5.0)).abs().amax(dim=2)
    assert (differ > 1e-5).all().item() is seen
    assert (differ > 0).any().item() is seen


def test_a_memory_has_no_weights_and_a_dense_encoder_none() -> None:
    shapes = [
        {name: value.shape for name, value in encoder(memory=memory).state_dict().items()}
        for memory in ("none", "tokens", "pooled")
    ]
    assert shapes[0] == shapes[1] == shapes[2]
    assert encoder(prune_after=(), keep_ratios=(), memory="tokens").memory is None
