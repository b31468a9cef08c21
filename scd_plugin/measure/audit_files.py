"""The audit of a training beside its log: a table, a row an epoch, and a picture of it."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from scd_plugin.measure.audit import Audit
from scd_plugin.measure.token_audit import KINDS

__all__ = ["audit_figure", "draw_audit", "read_audit", "write_audit"]

TABLE, PICTURE = "token_audit.csv", "token_audit.png"


def write_audit(folder: Path, epoch: int, audit: Audit) -> None:
    """Add an epoch's row; rows of this and later epochs, of a training that went back to a checkpoint, give way."""
    file = folder / TABLE
    rows = [row for row in read_audit(folder) if int(row["epoch"]) < epoch]
    rows.append({"epoch": str(epoch), **{name: f"{value:.4f}" for name, value in audit.row().items()}})
    with file.open("w", newline="", encoding="utf-8") as written:
        table = csv.DictWriter(written, fieldnames=list(rows[-1]), extrasaction="ignore", restval="nan")
        table.writeheader()
        table.writerows(rows)


def draw_audit(folder: Path) -> None:
    """Draw the share of tokens that leave at the first stage, epoch by epoch."""
    audit_figure(read_audit(folder)).savefig(folder / PICTURE, dpi=110)


def audit_figure(rows: Sequence[Mapping[str, str]]) -> Figure:
    """Draw the rows of the table."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    panel = figure.subplots()
    for kind, style in zip((*KINDS, "chance"), ("-", "-", "-", ":")):
        points = [(int(row["epoch"]), 100 * float(row[f"{kind}_left_at_1"])) for row in rows]
        panel.plot(*zip(*points), style, marker=".", label=kind)
    panel.set_xlabel("epoch")
    panel.set_ylabel("tokens that leave at stage 1, %")
    panel.set_ylim(-2, 102)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.legend()
    return figure


def read_audit(folder: Path) -> list[dict[str, str]]:
    """Read the rows of a folder's table; none where there is no table."""
    file = folder / TABLE
    if not file.is_file():
        return []
    with file.open(newline="", encoding="utf-8") as read:
        return list(csv.DictReader(read))
