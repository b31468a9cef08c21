"""Which case the demo shows."""

from __future__ import annotations

from pathlib import Path

from scd_plugin.demo.picture import typical_label


def test_the_case_in_the_middle() -> None:
    nan = float("nan")
    dice = {"a": [0.9, 0.9], "b": [nan, 0.2], "c": [0.5, 0.7], "d": [nan, nan], "e": [1.0, 0.6]}
    cases = [
        {"reference_file": f"labels/{name}.nii.gz", "metrics": {str(i): {"Dice": one} for i, one in enumerate(values)}}
        for name, values in dice.items()
    ]
    assert typical_label({"metric_per_case": cases}) == Path("labels/c.nii.gz")
    assert typical_label({"metric_per_case": cases[:2]}) == Path("labels/a.nii.gz")
    assert typical_label({"metric_per_case": cases[:1]}) == Path("labels/a.nii.gz")
