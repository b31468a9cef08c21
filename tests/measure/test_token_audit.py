from __future__ import annotations

import math

import pytest
import torch

from scd_plugin.measure.token_audit import TokenAudit
from scd_plugin.ops.token_labels import TokenLabels


def labels(mixed: list[int], foreground: list[int], inside: list[float], labelled: list[int]) -> TokenLabels:
    facts = (torch.tensor([values]).bool() for values in (mixed, foreground, labelled))
    first, second, third = facts
    # what is not labelled in part would make the share larger than what lies inside
    return TokenLabels(first, second, torch.tensor([inside]).ceil(), third, torch.tensor([inside]))


@pytest.fixture
def audit() -> TokenAudit:
    """Six tokens, of which the fifth has no label; 2, 3 and 4 leave first, 0 and 1 next, 5 stays."""
    audit = TokenAudit(2)
    exits = torch.tensor([[1, 1, 0, 0, 0, 2]])
    audit.add(exits, labels([1, 1, 0, 1, 0, 1], [1, 1, 1, 1, 0, 1], [0.5, 0.5, 1, 0.25, 0, 0.75], [1, 1, 1, 1, 0, 1]))
    return audit


def test_shares(audit: TokenAudit) -> None:
    assert audit.shares("mixed") == [0.25, 0.5, 0.25]
    assert audit.shares("foreground") == [0.4, 0.4, 0.2]
    assert audit.shares("chance") == [0.4, 0.4, 0.2]
    assert all(math.isnan(share) for share in audit.shares("background"))
    assert audit.foreground_voxels_left_first() == pytest.approx(1.25 / 3)


def test_in_one_line(audit: TokenAudit) -> None:
    assert audit.in_one_line() == (
        "tokens that left at stage 1, 2: more than one class 25, 50 %; any foreground 40, 40 %; background -, - %; "
        "chance 40, 40 %; foreground voxels in stage 1's 42 %"
    )


def test_row(audit: TokenAudit) -> None:
    row = audit.row()
    assert row["mixed_left_at_2"] == 0.5
    assert row["foreground_kept"] == 0.2
    assert len(row) == 13


def test_merge(audit: TokenAudit) -> None:
    other = TokenAudit(2)
    other.add(
        torch.tensor([[0, 1, 2]]),
        labels([1, 0, 0], [1, 0, 0], [1, 0, 0], [1] * 3),
    )
    merged = audit.merge([other])
    assert merged.shares("mixed") == [0.4, 0.4, 0.2]
    assert merged.shares("background") == [0, 0.5, 0.5]
    # what was merged stays
    assert audit.shares("mixed") == [0.25, 0.5, 0.25]


def test_nothing_but_background() -> None:
    audit = TokenAudit(1)
    audit.add(torch.tensor([[0, 0, 1]]), labels([0] * 3, [0] * 3, [0] * 3, [1] * 3))
    assert audit.shares("background") == pytest.approx([2 / 3, 1 / 3])
    assert math.isnan(audit.foreground_voxels_left_first())
    assert "more than one class - %" in audit.in_one_line()
