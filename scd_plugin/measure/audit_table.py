"""An audit as a person reads it."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table

from scd_plugin.measure.audit import Audit
from scd_plugin.measure.token_audit import NAMES

__all__ = ["audit_table"]


def audit_table(audit: Audit) -> Group:
    """Tokens by what they hold and where they leave; below it, what that does to the segmentation."""
    tokens = audit.tokens
    table = Table("tokens, %", title="where tokens leave")
    for stage in range(tokens.num_stages):
        table.add_column(f"stage {stage + 1}", justify="right")
    table.add_column("stay", justify="right")
    for kind, name in NAMES.items():
        table.add_row(name, *("-" if share != share else f"{100 * share:.1f}" for share in tokens.shares(kind)))
    left = tokens.foreground_voxels_left_first()
    voxels = "-" if left != left else f"{100 * left:.1f} %"
    lines = [f"foreground voxels in tokens that left at stage 1: {voxels}", audit.segmentation.in_one_line()]
    lines.append(f"cases: {audit.images}")
    if not tokens.tokens.sum():
        lines.append("nothing was counted: no voxel of these cases has a label that counts")
    elif not tokens.foreground.sum():
        lines.append("no voxel of these cases is foreground, so most of this is empty")
    return Group(table, *lines)
