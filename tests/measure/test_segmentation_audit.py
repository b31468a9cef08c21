from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from scd_plugin.measure.segmentation_audit import SegmentationAudit, components_found, overlaps

STAGES = 2
# four tokens of 4 x 4 pixels, side by side: one leaves first, one next, two stay
EXITS = torch.tensor([[[0, 1, 2, 2]]])


def logits_of(classes: Tensor, number: int) -> Tensor:
    return torch.nn.functional.one_hot(classes.long(), number).permute(0, 3, 1, 2).float()


@pytest.fixture
def label() -> Tensor:
    """A token's left half of class 1 in the first token, a whole one of class 2 in the third."""
    label = torch.zeros(1, 4, 16)
    label[:, :, :2] = 1
    label[:, :, 8:12] = 2
    return label


@pytest.fixture
def prediction(label: Tensor) -> Tensor:
    """The class 1 is a column too wide, half of class 2 is missed; a single voxel in the second token is wrong."""
    prediction = label.clone()
    prediction[:, :, 2] = 1
    prediction[:, 2:, 8:12] = 0
    prediction[:, 0, 5] = 1
    return prediction


class TestClasses:
    def audit(self, label: Tensor, prediction: Tensor, known: Tensor | None = None) -> SegmentationAudit:
        audit = SegmentationAudit(3)
        decided, truth = audit.decide(logits_of(prediction, 3)), label[:, None].long()
        known = torch.ones_like(truth).bool() if known is None else known
        audit.add_voxels(decided, truth, EXITS, STAGES, known)
        audit.add_components(decided, truth, known)
        return audit

    def test_dice(self, label: Tensor, prediction: Tensor) -> None:
        early, late, kept = self.audit(label, prediction).dice()
        assert early == pytest.approx(2 * 8 / (12 + 8))
        # a voxel that is predicted, and none that is labelled
        assert late == 0
        assert kept == pytest.approx(2 * 8 / (8 + 16))

    def test_components(self, label: Tensor, prediction: Tensor) -> None:
        audit = self.audit(label, prediction)
        # 8 voxels of class 1, 16 of class 2
        assert audit.components.tolist() == [[1, 1], [1, 1], [0, 0], [0, 0]]
        row = audit.row()
        assert (row["recall_1_8"], row["components_9_64"]) == (1, 1)
        assert math.isnan(row["recall_513+"])

    def test_ignored_voxels(self, label: Tensor, prediction: Tensor) -> None:
        known = torch.ones(1, 1, 4, 16).bool()
        known[..., 2:8] = False
        label[:, :, 2:8] = 3
        audit = self.audit(label, prediction, known)
        assert audit.dice()[0] == 1
        assert math.isnan(audit.dice()[1])
        assert audit.components.sum(axis=0).tolist() == [2, 2]

    def test_nothing_there(self) -> None:
        empty = torch.zeros(1, 4, 16)
        audit = self.audit(empty, empty)
        assert all(math.isnan(value) for value in audit.dice())
        assert audit.in_one_line() == (
            "Dice in tokens early, late, kept: -, -, - %; components found of 1-8, 9-64, 65-512, 513+ voxels: "
            "0/0, 0/0, 0/0, 0/0"
        )

    def test_merge(self, label: Tensor, prediction: Tensor) -> None:
        audit = self.audit(label, prediction)
        merged = audit.merge([self.audit(label, label)])
        assert merged.dice()[0] == pytest.approx(2 * 16 / (20 + 16))
        assert merged.components.sum() == 8
        assert audit.components.sum() == 4


def test_regions_that_overlap() -> None:
    audit = SegmentationAudit(2, regions=True)
    whole, core = torch.zeros(1, 4, 16), torch.zeros(1, 4, 16)
    whole[:, :, :4] = 1
    core[:, :, :2] = 1
    missed = torch.stack((whole, torch.zeros_like(core)), dim=1)
    decided, truth, known = audit.decide(missed - 0.5), torch.stack((whole, core), dim=1).long(), missed[:, :1] > -1
    audit.add_voxels(decided, truth, EXITS, STAGES, known)
    audit.add_components(decided, truth, known)
    # the whole is right, of the core nothing is
    assert audit.dice()[0] == 0.5
    assert audit.components.tolist() == [[0, 1], [1, 1], [0, 0], [0, 0]]


def test_overlaps() -> None:
    prediction, truth, groups = torch.tensor([0, 1, 1, 2]), torch.tensor([0, 1, 2, 2]), torch.tensor([0, 0, 1, -1])
    counts = overlaps(prediction, truth, groups, 2, 3)
    assert counts.tolist() == [[[1, 1, 1], [1, 1, 1], [0, 0, 0]], [[0, 0, 0], [0, 1, 0], [0, 0, 1]]]


def test_components_touch_by_a_corner_and_have_one_class() -> None:
    truth = np.array([[1, 0, 0], [0, 1, 2], [0, 0, 0]])
    sizes, found = components_found(np.array([[1, 0, 0], [0, 0, 0], [0, 0, 0]]), truth)
    assert sizes.tolist() == [2, 1]
    assert found.tolist() == [True, False]
