import pytest
import torch

from scd_plugin.blocks import transformer_blocks
from scd_plugin.blocks.transformer import KeptAttentionBlock


@pytest.mark.parametrize(("hidden_size", "mlp_dim"), [(48, 96), (192, 768), (768, 3072), (100, 333)])
def test_feed_forward_width_is_exact(hidden_size: int, mlp_dim: int) -> None:
    block = transformer_blocks(1, hidden_size=hidden_size, mlp_dim=mlp_dim, num_heads=4)[0]
    assert block.mlp.fc1.out_features == mlp_dim


def test_stochastic_depth_rises_linearly() -> None:
    blocks = transformer_blocks(5, hidden_size=8, mlp_dim=8, num_heads=2, drop_path_rate=0.2)
    rates = [getattr(block.drop_path1, "drop_prob", 0.0) for block in blocks]
    assert rates == pytest.approx([0.0, 0.05, 0.1, 0.15, 0.2])


def test_attention_is_fused() -> None:
    assert transformer_blocks(1, hidden_size=8, mlp_dim=8, num_heads=2)[0].attn.fused_attn


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="divisible by num_heads; got hidden_size 50 and num_heads 4"):
        transformer_blocks(1, hidden_size=50, mlp_dim=8, num_heads=4)
    with pytest.raises(ValueError, match="num_layers must be at least 1; got 0"):
        transformer_blocks(0, hidden_size=8, mlp_dim=8, num_heads=4)


class TestKeptAttention:
    def test_with_all_tokens_it_is_a_transformer_block(self) -> None:
        block = transformer_blocks(1, hidden_size=24, mlp_dim=48, num_heads=2)[0]
        ours = KeptAttentionBlock(24, 48, 2)
        weights = block.state_dict()
        for part in ("weight", "bias"):
            names = [f"attn.to_{letter}.{part}" for letter in "qkv"]
            weights.update(zip(names, weights.pop(f"attn.qkv.{part}").chunk(3)))
            weights[f"attn.out_proj.{part}"] = weights.pop(f"attn.proj.{part}")
        ours.load_state_dict(weights)
        x = torch.randn(2, 10, 24)
        torch.testing.assert_close(ours(x, 10), block(x), atol=1e-5, rtol=0)

    def test_tokens_not_kept_are_seen_by_themselves_alone(self) -> None:
        block, x = KeptAttentionBlock(24, 48, 2), torch.randn(2, 10, 24)
        changed = x.clone()
        changed[:, 7] += 1
        differs = (block(x, 4) != block(changed, 4)).any(dim=2)
        assert differs.tolist() == [[i == 7 for i in range(10)]] * 2
        changed[:, 3] += 1
        assert (block(x, 4) != block(changed, 4)).any(dim=2).all()
