"""The audit of a training beside its log: a table, a row an epoch, and a picture of it."""

from __future__ import annotations

import csv
from pathlib import Path

from matplotlib.figure import Figure

from scd_plugin.measure.audit import Audit
from scd_plugin.measure.token_audit import KINDS

__all__ = ["draw_audit", "write_audit"]

TABLE, PICTURE = "token_audit.csv", "token_audit.png"


def write_audit(folder: Path, epoch: int, audit: Audit) -> None:
    """Add an epoch's row; rows of this and later epochs, of a training that went back to a checkpoint, give way."""
    file = folder / TABLE
    rows = [row for row in _read(file) if int(row["epoch"]) < epoch]
    rows.append({"epoch": str(epoch), **{name: f"{value:.4f}" for name, value in audit.row().items()}})
    with file.open("w", newline="", encoding="utf-8") as written:
        table = csv.DictWriter(written, fieldnames=list(rows[-1]), extrasaction="ignore", restval="nan")
        table.writeheader()
        table.writerows(rows)


def draw_audit(folder: Path) -> None:
    """Draw the share of tokens that leave at the first stage, epoch by epoch."""
    rows = _read(folder / TABLE)
    figure = Figure(figsize=(7, 4), layout="constrained")
    panel = figure.subplots()
    for kind, style in zip((*KINDS, "chance"), ("-", "-", "-", ":")):
        points = [(int(row["epoch"]), 100 * float(row[f"{kind}_left_at_1"])) for row in rows]
        panel.plot(*zip(*points), style, marker=".", label=kind)
    panel.set_xlabel("epoch")
    panel.set_ylabel("tokens that leave at stage 1, %")
    panel.set_ylim(-2, 102)
    panel.legend()
    figure.savefig(folder / PICTURE, dpi=110)


def _read(file: Path) -> list[dict[str, str]]:
    if not file.is_file():
        return []
    with file.open(newline="", encoding="utf-8") as read:
        return list(csv.DictReader(read))
