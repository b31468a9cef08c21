from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from monai.losses import DiceCELoss, DiceLoss

from scd_plugin import SCDUNETR
from scd_plugin.monai import GuidedLoss
from scd_plugin.networks.guidance import GUIDE


def batch(regions: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    label = torch.zeros(2, max(1, regions), 32, 32, 32)
    label[:, :1, 4:12] = 1
    return torch.randn(2, 2, 32, 32, 32), label


def test_the_scores_learn(small: Callable[..., SCDUNETR]) -> None:
    network = small()
    own = DiceCELoss(to_onehot_y=True, softmax=True)
    guided = GuidedLoss(own, network, guide=0.5)
    image, label = batch()
    logits = network(image)
    extra = guided(logits, label) - own(logits, label)
    # cross-entropies of scores that know nothing, half of it
    assert 0.2 < extra.item() < 1
    extra.backward()
    gradient = network.get_parameter("encoder.stages.2.score.score.weight").grad
    assert gradient is not None
    assert gradient.any()


def test_labels_teach_unless_told_otherwise(small: Callable[..., SCDUNETR]) -> None:
    own = DiceCELoss(to_onehot_y=True, softmax=True)
    for asked, weight in ((None, GUIDE), (0, 0), (0.0, 0), (2, 2)):
        assert GuidedLoss(own, small(), guide=asked).guide == weight
    assert GuidedLoss(own, small()).guide == 0.3
    for nothing_to_teach in ({"keep_ratio": 1.0}, {"sampling": "random"}):
        assert GuidedLoss(own, small(**nothing_to_teach)).guide == 0


def test_regions(small: Callable[..., SCDUNETR]) -> None:
    network = small(out_channels=2)
    image, label = batch(regions=2)
    guided = GuidedLoss(DiceLoss(sigmoid=True), network, guide=1.0, target="foreground", regions=True)
    assert torch.isfinite(guided(network(image), label))


def test_a_network_of_others() -> None:
    loss = GuidedLoss(torch.nn.L1Loss(), torch.nn.Conv3d(1, 2, 1))
    assert loss(torch.ones(1, 1, 4, 4, 4), torch.zeros(1, 1, 4, 4, 4)) == 1
    with pytest.raises(ValueError, match=r"guide must be 0 for this Conv3d, which learns no choice of tokens; got 0.3"):
        GuidedLoss(torch.nn.L1Loss(), torch.nn.Conv3d(1, 2, 1), guide=0.3)


def test_without_guidance_the_loss_is_as_it_was(small: Callable[..., SCDUNETR]) -> None:
    network = small(keep_ratio=1.0)
    own = DiceCELoss(to_onehot_y=True, softmax=True)
    image, label = batch()
    logits = network(image)
    assert GuidedLoss(own, network)(logits, label).item() == own(logits, label).item()


@pytest.mark.parametrize(
    ("settings", "changes", "message"),
    [
        ({"guide": -1}, {}, "guide must be 0 or more, or None for 0.3 where tokens are chosen; got -1"),
        ({"guide": True}, {}, "guide must be 0 or more, or None for 0.3 where tokens are chosen; got True"),
        ({"guide": "off"}, {}, "guide must be 0 or more, or None for 0.3 where tokens are chosen; got 'off'"),
        (
            {"guide": 1, "target": "edges"},
            {},
            "guide_target must be one of mixed, foreground, share, graded; got 'edges'",
        ),
        ({"guide": 1}, {"keep_ratio": 1.0}, "guide must be 0 for this SCDUNETR, which learns no choice of tokens"),
        ({"guide": 1}, {"sampling": "random"}, "guide must be 0 for this SCDUNETR, which learns no choice of tokens"),
    ],
    ids=["negative", "true", "text", "target", "dense", "random"],
)
def test_refused(
    small: Callable[..., SCDUNETR], settings: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        GuidedLoss(DiceLoss(), small(**changes), **settings)
