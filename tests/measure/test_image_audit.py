from __future__ import annotations

from collections.abc import Callable
from io import StringIO

import pytest
import torch
from rich.console import Console

from scd_plugin import SCDUNETR
from scd_plugin.measure.audit_table import audit_table
from scd_plugin.measure.image_audit import ImageAudit

# of the fixture `small`: crops of 32 voxels, tokens of 8, two channels
CHANNELS = 2


def tokens(audit: ImageAudit, kind: int) -> float:
    return float(audit.audit.tokens.tokens[kind].sum())


@pytest.mark.parametrize(
    "size", [(32, 32, 32), (40, 64, 33), (20, 32, 40)], ids=["crop", "larger", "smaller on an axis"]
)
def test_every_voxel_counts_once(small: Callable[..., SCDUNETR], size: tuple[int, ...]) -> None:
    audit = ImageAudit(small())
    label = torch.zeros(1, 1, *size)
    label[:, :, 5:15, 5:15] = 1
    audit.add(torch.randn(1, CHANNELS, *size), label)
    _, _, labelled = audit.audit.segmentation.voxels.sum(dim=(0, 1))
    assert labelled == label.sum()


def test_shares(small: Callable[..., SCDUNETR]) -> None:
    audit = ImageAudit(small())
    label = torch.zeros(1, 1, 32, 64, 32)
    label[..., :8, :] = 1
    known = torch.ones_like(label).bool()
    known[..., 32:, :] = False
    audit.add(torch.randn(1, CHANNELS, 32, 64, 32), label, known=known)
    # of two windows the second has no label
    assert [tokens(audit, kind) for kind in range(4)] == [0, 16, 48, 64]
    audit.begin()
    assert tokens(audit, 3) == 0


def test_the_network_is_left_as_it_was(small: Callable[..., SCDUNETR]) -> None:
    network = small().train()
    audit = ImageAudit(network)
    audit.add(torch.randn(1, CHANNELS, 32, 32, 32), torch.zeros(1, 1, 32, 32, 32))
    assert network.training
    # an evaluation chooses without noise
    first = audit.audit.tokens.tokens.clone()
    audit.add(torch.randn(1, CHANNELS, 32, 32, 32), torch.zeros(1, 1, 32, 32, 32))
    assert torch.equal(audit.audit.tokens.tokens, 2 * first)


def test_slices_of_a_network_in_2d() -> None:
    network = SCDUNETR(
        1, 2, img_size=(32, 32), patch_size=8, spatial_dims=2, hidden_size=24, num_heads=2, num_layers=4,
        mlp_dim=48, prune_after=(1,), keep_ratio=0.5, feature_size=4,
    )  # fmt: skip
    audit = ImageAudit(network)
    label = torch.zeros(1, 1, 9, 32, 40)
    label[:, :, 3] = 1
    audit.add(torch.randn(1, 1, 9, 32, 40), label)
    assert audit.audit.segmentation.voxels.sum(dim=(0, 1))[2] == 32 * 40
    # each slice in two windows of 4 x 4 tokens, of the second one column is new
    assert tokens(audit, 3) == 9 * (16 + 4)
    assert tokens(audit, 1) == 16 + 4


def test_a_network_of_others_is_refused() -> None:
    with pytest.raises(ValueError, match="the network, Conv3d, prunes no tokens, so there is nothing to audit"):
        ImageAudit(torch.nn.Conv3d(1, 2, 1))


def test_a_dense_network_is_refused(small: Callable[..., SCDUNETR]) -> None:
    with pytest.raises(ValueError, match="the network, SCDUNETR, prunes no tokens, so there is nothing to audit"):
        ImageAudit(small(keep_ratio=1.0))


def test_table(small: Callable[..., SCDUNETR]) -> None:
    audit = ImageAudit(small())
    label = torch.zeros(1, 1, 32, 32, 32)
    label[..., :8] = 1
    audit.add(torch.randn(1, CHANNELS, 32, 32, 32), label)
    shown = StringIO()
    Console(file=shown, width=120).print(audit_table(audit.audit))
    lines = shown.getvalue().splitlines()
    assert "more than one class" in lines[4]
    # no token holds two classes
    assert lines[4].count("-") == 4
    assert "50.0" in next(line for line in lines if "chance" in line)
    assert "components found of" in lines[-2]
    assert lines[-1] == "cases: 1"


@pytest.mark.parametrize(
    ("known", "sentence"),
    [
        (False, "nothing was counted: no voxel of these cases has a label that counts"),
        (True, "no voxel of these cases is foreground, so most of this is empty"),
    ],
)
def test_nothing_to_count(small: Callable[..., SCDUNETR], known: bool, sentence: str) -> None:
    audit = ImageAudit(small())
    label = torch.zeros(1, 1, 32, 32, 32)
    audit.add(torch.randn(1, CHANNELS, 32, 32, 32), label, known=torch.full_like(label, known, dtype=torch.bool))
    shown = StringIO()
    Console(file=shown, width=120).print(audit_table(audit.audit))
    assert shown.getvalue().splitlines()[-1] == sentence


def test_foreground_voxels_of_tokens_that_are_labelled_in_part(small: Callable[..., SCDUNETR]) -> None:
    network = small().eval()
    label, image = torch.ones(1, 1, 32, 32, 32), torch.randn(1, CHANNELS, 32, 32, 32)
    with torch.no_grad():
        left = (network.exit_stages(image) == 0)[:, None]
    edge = 32 // left.shape[-1]
    for axis in (2, 3, 4):
        left = left.repeat_interleave(edge, axis)
    known = left.clone()
    # of tokens that stay longer one voxel in 64 is labelled
    known[..., ::4, ::4, ::4] = True
    audit = ImageAudit(network)
    audit.add(image, label, known=known)
    expected = (left & known).sum() / known.sum()
    assert audit.audit.tokens.foreground_voxels_left_first() == pytest.approx(expected.item())


def test_a_label_of_no_class(small: Callable[..., SCDUNETR]) -> None:
    audit = ImageAudit(small())
    label = torch.full((1, 1, 32, 32, 32), 255)
    message = "a label is 255, and the network has the classes 0 to 2; mark voxels whose label does not count by"
    with pytest.raises(ValueError, match=message):
        audit.add(torch.randn(1, CHANNELS, 32, 32, 32), label)
