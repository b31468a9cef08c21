"""The demo says which tokens of the held-out cases leave where."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console

pytest.importorskip("nnunetv2")

from scd_plugin import SCDUNETR
from scd_plugin.demo import run as demo_run
from scd_plugin.measure.audit import Audit
from scd_plugin.nnunet.predict import audit as predict_audit


def test_share_of_organ_tokens(small: Callable[..., SCDUNETR], monkeypatch: pytest.MonkeyPatch) -> None:
    audit = Audit(small())
    # foreground tokens by stage, the last ones stay; there is no background
    audit.tokens.tokens[1] = torch.tensor([1.0, 2.0, 1.0, 16.0])
    audit.tokens.tokens[3] = torch.tensor([8.0, 4.0, 4.0, 16.0])
    seen: list[Any] = []
    monkeypatch.setattr(predict_audit, "audit_model", lambda *folders, device: seen.append((*folders, device)) or audit)
    session: Any = SimpleNamespace(console=Console(file=StringIO(), width=100))
    found = demo_run._audit(session, Path("model"), Path("images"), Path("labels"), device="cpu")
    assert seen == [(Path("model"), Path("images"), Path("labels"), torch.device("cpu"))]
    printed = [line.split("│")[1:-1] for line in session.console.file.getvalue().splitlines() if "│" in line]
    rows = {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in printed}
    assert rows["any foreground"] == ["5.0", "10.0", "5.0", "80.0"]
    assert rows["background"] == ["-"] * 4
    assert found["foreground_kept"] == pytest.approx(0.8)
    assert found["background_kept"] is None
