"""`scd bench`, and volumes of growth, on one CUDA device."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = [
    pytest.mark.slow,
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

BENCH = ("-c", "from scd_plugin.cli import app; app()", "bench")
GROWTH = (str(Path(__file__).parents[2] / "benchmarks" / "growth.py"), "volume", "32", "48")


@pytest.mark.parametrize(("command", "modes"), [(BENCH, ["forward", "train"]), (GROWTH, ["forward"])])
def test_numbers_can_be(command: tuple[str, ...], modes: list[str], tmp_path: Path) -> None:
    output = tmp_path / "quick.json"
    words = (*command, "--quick", "--device", "cuda", "--dtype", "float16", "--output", str(output))
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    results = json.loads(output.read_text())
    assert results["machine"]["gpu"] == torch.cuda.get_device_properties(0).name
    assert results["machine"]["gpu"] in done.stdout
    assert results["settings"]["dtype"] == "float16"
    for entry in results["entries"]:
        assert entry["problems"] == {}
        assert entry["parameters"]
        assert entry["macs"]
        assert sum(entry["parts"].values()) == pytest.approx(1)
        assert list(entry["modes"]) == modes
        for mode, measured in entry["modes"].items():
            assert len(measured["seconds"]) == 2
            assert 0 < min(measured["seconds"]) <= max(measured["seconds"]) < 60
            # weights of 4 bytes; in training gradients and AdamW's two moments, too
            weights = 4 * entry["parameters"] * (4 if mode == "train" else 1)
            assert measured["peak_bytes"] - measured["before_bytes"] > weights
