"""nnU-Net's targets as labels of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from scd_plugin.ops.token_labels import TokenLabels, token_labels

__all__ = ["known_labels", "target_token_labels"]


def known_labels(target: Tensor, label_manager: Any) -> tuple[Tensor, Tensor | None]:
    """Part a target as nnU-Net's losses get it: its labels, and which voxels count (bool), None for all.

    Labels are (B, 1, *size) classes, or a channel for each region. The ignore label is one of the classes there, and
    the last channel where there are regions.
    """
    if not label_manager.has_ignore_label:
        return target, None
    if label_manager.has_regions:
        return target[:, :-1], ~target[:, -1:].bool()
    return target, target != label_manager.ignore_label


def target_token_labels(target: Tensor, grid_size: Sequence[int], label_manager: Any) -> TokenLabels:
    """Look at the tokens of a target as nnU-Net's losses get it; see `known_labels`."""
    label, known = known_labels(target, label_manager)
    return token_labels(label, grid_size, known=known, regions=label_manager.has_regions)
