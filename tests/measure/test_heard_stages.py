"""What a forward pass lets hear of its stages."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from scd_plugin import SCDUNETR
from scd_plugin.measure.heard_stages import HeardStages


def test_the_first_pass_is_heard(small: Callable[..., SCDUNETR]) -> None:
    network = small().eval()
    heard, images = HeardStages(network), torch.randn(2, 2, 2, 32, 32, 32)
    assert heard.num_stages == 3
    with torch.no_grad():
        for image in images:
            network(image)
        expected = network.exit_stages(images[0])
    # `exit_stages` went through the encoder, too: it was the third
    found = heard.take()
    assert found is not None
    assert found.dtype == torch.uint8
    assert torch.equal(found[:, ::8, ::8, ::8], (expected + 1).to(torch.uint8))
    assert found.shape == (2, 32, 32, 32)
    assert torch.equal(found[:, 7::8, 7::8, 7::8], found[:, ::8, ::8, ::8])
    assert heard.take() is None


def test_what_was_heard_can_be_forgotten(small: Callable[..., SCDUNETR]) -> None:
    network = small().eval()
    heard = HeardStages(network)
    network(torch.randn(1, 2, 32, 32, 32))
    heard.forget()
    assert heard.take() is None


@pytest.mark.parametrize("dense", [True, False])
def test_networks_that_prune_nothing(small: Callable[..., SCDUNETR], dense: bool) -> None:
    network = small(keep_ratio=1) if dense else torch.nn.Conv3d(1, 2, 3)
    with pytest.raises(ValueError, match="a keep map is for networks that prune tokens, and this one prunes none"):
        HeardStages(network)
