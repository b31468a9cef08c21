import pytest
import torch

from scd_plugin import SCDUNETR
from scd_plugin.networks.presets import SIZES, size_arguments


@pytest.mark.parametrize(("size", "millions"), [("tiny", 2.1), ("small", 30), ("base", 107), ("large", 360)])
def test_sizes_grow(size: str, millions: float) -> None:
    with torch.device("meta"):
        net = SCDUNETR(in_channels=1, out_channels=14, img_size=96, **size_arguments(size))
    assert sum(parameter.numel() for parameter in net.parameters()) / 1e6 == pytest.approx(millions, rel=0.15)


def test_a_size_can_be_changed_without_changing_the_preset() -> None:
    size_arguments("base")["hidden_size"] = 1
    assert SIZES["base"]["hidden_size"] == 768


def test_unknown_size() -> None:
    with pytest.raises(ValueError, match="size must be one of tiny, small, base, large; got 'huge'"):
        size_arguments("huge")
