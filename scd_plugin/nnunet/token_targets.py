"""nnU-Net's targets as labels of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from scd_plugin.ops.token_labels import TokenLabels, token_labels

__all__ = ["target_token_labels"]


def target_token_labels(target: Tensor, grid_size: Sequence[int], label_manager: Any) -> TokenLabels:
    """Look at the tokens of a target as nnU-Net's losses get it: (B, 1, *size) classes, or a channel for each region.

    The ignore label is one of the classes there, and the last channel where there are regions.
    """
    regions, known = label_manager.has_regions, None
    if label_manager.has_ignore_label:
        known = ~target[:, -1:].bool() if regions else target != label_manager.ignore_label
        target = target[:, :-1] if regions else target
    return token_labels(target, grid_size, known=known, regions=regions)
