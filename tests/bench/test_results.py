from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from scd_plugin.bench.results import Results


def test_a_file_has_plain_values(results: Callable[..., Results], tmp_path: Path) -> None:
    results(grow={"variable": "crop", "values": ["64"]}).write(tmp_path / "run.json")
    found = json.loads((tmp_path / "run.json").read_text())
    assert found["schema"] == 1
    assert found["grow"] == {"variable": "crop", "values": ["64"]}
    ours, dense, unetr = found["entries"]
    assert [entry["contestant"] for entry in found["entries"]] == ["scd", "dense", "unetr"]
    assert ours["modes"]["forward"] == {
        "steps": 2,
        "before_bytes": 1_000_000_000,
        "peak_bytes": 2_000_000_000,
        "seconds": [0.5, 0.4, 1.0],
        "stages": [],
    }
    assert (ours["keep_ratio"], dense["keep_ratio"], ours["volume"]) == (0.1, None, None)
    assert (unetr["modes"], unetr["problems"]) == ({}, {"forward": "does not fit"})
