import pytest
import torch

from scd_plugin import SCDUNETR
from scd_plugin.networks.presets import FAST_KEEP_RATIO, SIZES, size_arguments


@pytest.mark.parametrize(("size", "millions"), [("tiny", 2.1), ("small", 30), ("base", 107), ("large", 360)])
def test_sizes_grow(size: str, millions: float) -> None:
    with torch.device("meta"):
        net = SCDUNETR(in_channels=1, out_channels=14, img_size=96, **size_arguments(size))
    assert sum(parameter.numel() for parameter in net.parameters()) / 1e6 == pytest.approx(millions, rel=0.15)


@pytest.mark.parametrize(
    ("size", "prune_after", "width"),
    [
        ("tiny-fast", (1, 2, 4, 6), 48),
        ("small-fast", (1, 3, 6, 9), 192),
        ("base-fast", (1, 3, 6, 9), 384),
        ("large-fast", (2, 6, 12, 18), 512),
    ],
)
def test_fast_sizes(size: str, prune_after: tuple[int, ...], width: int) -> None:
    arguments = size_arguments(size)
    plain = {name for name in arguments if arguments[name] == size_arguments(size.removesuffix("-fast")).get(name)}
    assert plain == {"hidden_size", "mlp_dim", "num_heads", "num_layers", "feature_size"}
    assert (arguments["prune_after"], arguments["completion_hidden_size"]) == (prune_after, width)
    net = SCDUNETR(1, 2, 48, keep_ratio=FAST_KEEP_RATIO, **size_arguments("tiny-fast"))
    # 216 tokens: 86 stay after the first block, then 21, 5 and 1
    assert type(net.decoder).__name__ == "LightDecoder"
    counts = net.exit_stages(torch.randn(1, 1, 48, 48, 48)).flatten().bincount().tolist()
    assert counts == [130, 65, 16, 4, 1]


def test_early_sizes_are_the_fast_ones_with_the_published_decoder() -> None:
    for name in ("tiny", "small", "base", "large"):
        assert {**size_arguments(f"{name}-early"), "decoder": "light"} == size_arguments(f"{name}-fast")
    net = SCDUNETR(1, 2, 48, keep_ratio=FAST_KEEP_RATIO, **size_arguments("tiny-early"))
    assert type(net.decoder).__name__ == "UNETRDecoder"


def test_a_size_can_be_changed_without_changing_the_preset() -> None:
    size_arguments("base")["hidden_size"] = 1
    assert SIZES["base"]["hidden_size"] == 768


def test_unknown_size() -> None:
    with pytest.raises(
        ValueError,
        match=r"size must be one of tiny, small, base, large, tiny-early, .*; got 'huge'",
    ):
        size_arguments("huge")
