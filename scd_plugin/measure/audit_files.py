"""Audits as files: of a training a table, a row an epoch, and a picture of it; of a model a row and its picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from scd_plugin.folders import check_output
from scd_plugin.measure.audit import Audit
from scd_plugin.measure.stage_colours import stage_names, stage_shades
from scd_plugin.measure.token_audit import KINDS, NAMES, TokenAudit
from scd_plugin.whole_files import moved_into_place

__all__ = ["audit_figure", "check_free", "draw_audit", "read_audit", "save_audit", "stages_figure", "write_audit"]

TABLE, PICTURE = "token_audit.csv", "token_audit.png"


def write_audit(folder: Path, epoch: int, audit: Audit, *, anew: bool = False) -> None:
    """Add an epoch's row; rows of this and later epochs, of a training that went back to a checkpoint, give way.

    With `anew` all rows do, which are of another training.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = [] if anew else [row for row in _whole_rows(folder) if int(row["epoch"]) < epoch]
    rows.append({"epoch": str(epoch), **{name: f"{value:.4f}" for name, value in audit.row().items()}})
    written = io.StringIO(newline="")
    table = csv.DictWriter(written, fieldnames=list(rows[-1]), extrasaction="ignore", restval="nan")
    table.writeheader()
    table.writerows(rows)
    with moved_into_place(folder / TABLE) as partial:
        partial.write_bytes(written.getvalue().encode())


def check_free(folder: str | Path) -> Path:
    """Return a folder for a table, with its home folder spelled out.

    Raises:
        ValueError: if it can't be written to, is a file, or holds the table of a training.
    """
    output = check_output(folder)
    if output.exists() and not output.is_dir():
        msg = f"output must be a folder; {output} is a file"
        raise ValueError(msg)
    if (output / TABLE).exists():
        msg = f"{output} holds a {TABLE} already, perhaps of a training; name another folder"
        raise ValueError(msg)
    return output


def draw_audit(folder: Path) -> None:
    """Draw the share of tokens that leave at the first stage, epoch by epoch."""
    audit_figure(_whole_rows(folder)).savefig(folder / PICTURE, dpi=110)


def save_audit(folder: Path, audit: Audit) -> None:
    """Write the audit of a model: its row, and a picture of where tokens leave."""
    write_audit(folder, 0, audit)
    stages_figure(audit.tokens).savefig(folder / PICTURE, dpi=110)


def stages_figure(tokens: TokenAudit) -> Figure:
    """Draw a bar for each kind of token, in parts that leave at a stage or stay; a kind that is not there has none."""
    figure = Figure(figsize=(7, 3), layout="constrained")
    panel = figure.subplots()
    names, shades = stage_names(tokens.num_stages)[1:], stage_shades(tokens.num_stages)
    for kind, label in reversed(NAMES.items()):
        start = 0.0
        for share, shade in zip(tokens.shares(kind), shades):
            percent = 0.0 if share != share else 100 * share
            panel.barh(label, percent, left=start, color=shade)
            start += percent
    panel.set_xlabel("tokens, %")
    panel.set_xlim(0, 100)
    handles = [Patch(color=shade, label=name) for name, shade in zip(names, shades)]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(names), fontsize="small")
    return figure


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


def _whole_rows(folder: Path) -> list[dict[str, str]]:
    """Those that were not cut off: a training goes on without them."""
    return [row for row in read_audit(folder) if "epoch" in row and all(map(_is_number, row.values()))]


def _is_number(text: str | list[str] | None) -> bool:
    try:
        float(text)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return True
