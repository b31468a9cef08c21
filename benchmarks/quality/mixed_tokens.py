"""Count how many tokens of a crop hold more than one class, and so how many of them must leave whatever chooses.

    python benchmarks/quality/mixed_tokens.py

writes `mixed_tokens.csv`, a row for each task, of the crops on which `study.py` counts which tokens leave.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from batches import crops
from evaluation import AUDIT_CROPS, AUDIT_SEED, token_kinds
from tasks import TASKS, Case, Task, shared_folder, split

FILE = Path(__file__).with_name("mixed_tokens.csv")
KEPT = (0.25, 0.5)
"""shares of the tokens that stay"""
COLUMNS = ("task", "crops", "mean", "99 of 100", *(f"must leave, {kept:.0%} kept" for kept in KEPT))


def mixed_shares(cases: Sequence[Case], task: Task) -> np.ndarray:
    """Share of the tokens with more than one class, of each crop."""
    draw = crops(task, seed=AUDIT_SEED)
    drawn = [draw({"image": case.image, "label": case.label})[0] for case in cases for _ in range(AUDIT_CROPS)]
    return np.array([token_kinds(crop["label"][None], task.patch)["mixed"].float().mean().item() for crop in drawn])


def must_leave(shares: np.ndarray, kept: float) -> float:
    """Share of all these tokens that must leave because a crop has more of them than stay."""
    return float(np.maximum(shares - kept, 0).sum() / shares.sum())


def main() -> None:
    """Count for all tasks."""
    with FILE.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for name, task in TASKS.items():
            _, validation = split(task.load(shared_folder()), task.validation_share)
            shares = mixed_shares(validation, task)
            values = (shares.mean(), np.quantile(shares, 0.99), *(must_leave(shares, kept) for kept in KEPT))
            writer.writerow([name, len(shares), *[f"{value:.4f}" for value in values]])


if __name__ == "__main__":
    main()
