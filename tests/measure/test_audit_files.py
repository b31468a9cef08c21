from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from scd_plugin import SCDUNETR
from scd_plugin.measure.audit import Audit
from scd_plugin.measure.audit_files import draw_audit, write_audit


def test_a_row_an_epoch(small: Callable[..., SCDUNETR], tmp_path: Path) -> None:
    audit = Audit(small())
    audit.tokens.tokens[3] = torch.tensor([2.0, 1.0, 1.0, 0.0])
    audit.tokens.tokens[2] = torch.tensor([2.0, 1.0, 1.0, 0.0])
    for epoch in (0, 1, 2, 1):
        write_audit(tmp_path, epoch, audit)
    lines = (tmp_path / "token_audit.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["epoch", "0", "1"]
    assert lines[0].split(",")[1:4] == ["mixed_left_at_1", "mixed_left_at_2", "mixed_left_at_3"]
    assert lines[1].split(",")[9:13] == ["0.5000", "0.2500", "0.2500", "0.0000"]
    draw_audit(tmp_path)
    assert (tmp_path / "token_audit.png").stat().st_size > 5000
