"""The tutorial from a folder of images to a report, block by block, as a reader would run it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "tutorials" / "images-to-report.md"


@pytest.mark.slow
def test_every_block(tmp_path: Path) -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("nnUNet_")},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    said = ""
    for language, block in re.findall(r"```(python|bash)\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL):
        words = [sys.executable, "-c", block] if language == "python" else ["bash", "-euc", block]
        done = subprocess.run(
            words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1200, check=False
        )
        assert done.returncode == 0, f"{block}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        said += done.stdout
    assert "mean" in said
    assert (tmp_path / "training" / "report.html").stat().st_size > 10_000
    made = {path.relative_to(tmp_path / "predictions").as_posix() for path in (tmp_path / "predictions").rglob("*.*")}
    named = re.findall(r"`predictions/([\w/.]+)`", PAGE.read_text(encoding="utf-8"))
    assert {"ball_6.nii.gz", "report.html", "statistics.csv", "keep_maps"} == set(named)
    assert {*named, "ball_7.nii.gz", "keep_maps/ball_7.nii.gz"} - {"keep_maps"} <= made
