from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from scd_plugin import SCDUNETR
from scd_plugin.measure.audit import Audit
from scd_plugin.measure.audit_files import check_free, draw_audit, read_audit, save_audit, stages_figure, write_audit


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


def test_a_row_that_was_cut_off_is_left_out(small: Callable[..., SCDUNETR], tmp_path: Path) -> None:
    audit = Audit(small())
    for epoch in (0, 1):
        write_audit(tmp_path, epoch, audit)
    table = tmp_path / "token_audit.csv"
    text = table.read_text()
    table.write_text(text[: text.rindex(",") + 1])
    draw_audit(tmp_path)
    write_audit(tmp_path, 2, audit)
    assert [row["epoch"] for row in read_audit(tmp_path)] == ["0", "2"]
    assert {path.name for path in tmp_path.iterdir()} == {"token_audit.csv", "token_audit.png"}


def test_of_a_model(small: Callable[..., SCDUNETR], tmp_path: Path) -> None:
    audit = Audit(small())
    audit.tokens.tokens[0] = torch.tensor([1.0, 0.0, 2.0, 1.0])
    audit.tokens.tokens[3] = torch.tensor([2.0, 1.0, 1.0, 0.0])
    save_audit(tmp_path, audit)
    assert [row["mixed_left_at_1"] for row in read_audit(tmp_path)] == ["0.2500"]
    assert (tmp_path / "token_audit.png").stat().st_size > 5000
    panel = stages_figure(audit.tokens).axes[0]
    assert [label.get_text() for label in panel.get_yticklabels()][::3] == ["chance", "more than one class"]
    # there was no foreground and no background
    widths = [round(bar.get_width()) for bar in panel.patches]
    assert widths == [50, 25, 25, 0, 0, 0, 0, 0, 0, 0, 0, 0, 25, 0, 50, 25]
    assert [text.get_text() for text in panel.figure.legends[0].texts] == [
        "left at stage 1",
        "left at stage 2",
        "left at stage 3",
        "kept to the end",
    ]


class TestFolderOfAnAudit:
    def test_home_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        assert check_free("~/audit") == tmp_path / "audit"

    def test_a_trainings_table_stays(self, small: Callable[..., SCDUNETR], tmp_path: Path) -> None:
        write_audit(tmp_path / "fold_0", 7, Audit(small()))
        with pytest.raises(ValueError, match=r"fold_0 holds a token_audit.csv already, perhaps of a training; name"):
            check_free(tmp_path / "fold_0")

    def test_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "audit").touch()
        with pytest.raises(ValueError, match=r"output must be a folder; .*audit is a file$"):
            check_free(tmp_path / "audit")
