"""How many steps a second are fed: the step of the GPU run, its table, and what the loader gives."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import fed_batches
import pytest

pytest.importorskip("nnunetv2")


def where(seconds: float) -> SimpleNamespace:
    return SimpleNamespace(dry=True, cuda=False, left=lambda: seconds)


def test_both_ways_are_measured() -> None:
    rows = list(fed_batches.fed_batches(where(60)))
    assert [(row["augmentation"], row["workers"], row["crop"], row["batch"]) for row in rows] == [
        ("cpu", 1, 32, 2),
        ("device", 1, 32, 2),
    ]
    assert all(0 < row["steps_per_second"] < 5000 for row in rows)


def test_crops_are_larger_than_what_a_network_sees(tmp_path: Path) -> None:
    fed_batches.write_cases(tmp_path, 16)
    crops, transform = fed_batches.crops_and_transform(tmp_path, 16, 3)
    batch = next(crops)
    assert batch["data"].shape[:2] == (3, 1)
    assert min(batch["data"].shape[2:]) > 16
    assert set(batch["target"].unique().tolist()) <= {-1, *range(fed_batches.CLASSES)}
    assert batch["target"].max() > 0
    assert transform(image=batch["data"][0], segmentation=batch["target"][0])["image"].shape == (1, 16, 16, 16)


def test_time_is_short() -> None:
    assert list(fed_batches.fed_batches(where(0.01))) == [
        {"skipped": "cpu with 1 processes: time is short"},
        {"skipped": "device with 1 processes: time is short"},
    ]


def test_without_nnunet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fed_batches, "nnunet_runs", lambda: False)
    assert list(fed_batches.fed_batches(where(60))) == [{"skipped": "nnunetv2 is not installed with what it needs"}]


def test_table() -> None:
    rows = [
        {"augmentation": way, "workers": n, "steps_per_second": n * 1.26} for n in (4, 8) for way in ("cpu", "device")
    ]
    assert fed_batches.table(rows).splitlines() == [
        "| Processes | cpu | device |",
        "|---|---|---|",
        "| 4 | 5.0 | 5.0 |",
        "| 8 | 10.1 | 10.1 |",
    ]


def test_numbers_that_cannot_be(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["fed_batches.py", "--workers", "4", "0"])
    with pytest.raises(SystemExit) as ended:
        fed_batches.main()
    assert ended.value.code == 2
    assert "--workers, --crop and --batch must be 1 or more" in capsys.readouterr().err
