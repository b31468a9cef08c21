"""Cases of a batch with a label that dataset.json does not name, where nnU-Net's own check was skipped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from scd_plugin.nnunet.augmentation.device_batches import CROPPED_TARGET

__all__ = ["explain_unknown_labels", "unknown_labels"]


def unknown_labels(target: Tensor, cases: Sequence[str], known: Iterable[int]) -> dict[str, list[int]]:
    """Labels (B, 1, D, H, W) of the B cases that are not known, for each case that has some."""
    allowed = set(known)
    unknown: dict[str, set[int]] = {}
    for case, label in zip(cases, target):
        if extra := {int(value) for value in label.unique()} - allowed:
            # a case can be in a batch twice
            unknown[case] = unknown.get(case, set()) | extra
    return {case: sorted(values) for case, values in unknown.items()}


def explain_unknown_labels(batch: Mapping[str, Any], label_manager: Any) -> str | None:
    """A sentence on the unknown labels of a batch that the loss could not take; None where it has none."""
    if label_manager.has_regions:
        # targets are one channel a region, in which no other label shows
        return None
    # what was augmented on a CUDA device lies there, and can't be asked once the device has failed
    target = batch.get(CROPPED_TARGET, batch["target"])
    known = [*label_manager.all_labels, *([label_manager.ignore_label] if label_manager.has_ignore_label else [])]
    # with deep supervision the full resolution comes first
    full = target[0] if isinstance(target, list) else target
    # before augmentation there is the previous stage's segmentation, too, and -1 outside of the case
    if not (unknown := unknown_labels(full[:, :1], batch["keys"], [*known, -1])):
        return None
    what = "; ".join(f"{case}: {', '.join(map(str, values))}" for case, values in unknown.items())
    return (
        f"label maps may hold the labels of dataset.json, {', '.join(map(str, known))}; got {what}. Correct label maps "
        "or dataset.json and preprocess again, with --verify_dataset_integrity to find all such cases"
    )
