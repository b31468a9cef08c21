"""Keep ratios that planners count, on label maps whose shares can be worked out by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("nnunetv2")

from scd_plugin.nnunet.planning.counted_labels import View
from scd_plugin.nnunet.planning.counting_planner import MAX_DRAFTS, CountingPlanner
from scd_plugin.nnunet.planning.planner import nnUNetPlannerSCD_tiny, nnUNetPlannerSCD_tiny_fast

DATASET = "Dataset903_Counted"
SHAPE = [40, 56, 40]


class AsPreset(nnUNetPlannerSCD_tiny):
    scd_keep_ratio = "preset"


class Third(nnUNetPlannerSCD_tiny_fast):
    scd_keep_ratio = 0.3


class Wrong(nnUNetPlannerSCD_tiny):
    scd_keep_ratio = "counted"


@pytest.fixture
def dataset(unplanned: Callable[[str, int], tuple[Path, Path]], volumes: Any) -> Callable[[np.ndarray], Path]:
    """Writes a data set of two cases with one label map, of the size of a crop; returns the file of the plans."""

    def write(label: np.ndarray) -> Path:
        raw, preprocessed = unplanned(DATASET, 2)
        for number in range(2):
            (raw / "imagesTr" / f"case_{number}_0000.nii.gz").touch()
            volumes.write(raw / "labelsTr" / f"case_{number}.nii.gz", label)
        fingerprint = {
            "spacings": [[1.0, 1.0, 1.0]] * 2,
            "shapes_after_crop": [SHAPE] * 2,
            "median_relative_size_after_cropping": 1.0,
            "foreground_intensity_properties_per_channel": {"0": {}},
        }
        (preprocessed / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))
        return preprocessed / "nnUNetPlansSCD_tiny.json"

    return write


def ratios(plans: dict[str, Any]) -> dict[str, Any]:
    networks = {name: one["architecture"]["arch_kwargs"] for name, one in plans["configurations"].items()}
    assert {name: (one["img_size"], one["patch_size"]) for name, one in networks.items()} == {
        "2d": ([56, 40], [4, 4]),
        "3d_fullres": (SHAPE, [4, 4, 4]),
    }
    return {name: one["keep_ratio"] for name, one in networks.items()}


def cube() -> np.ndarray:
    """In the first half of each axis, so that no crop moves: it is in 125 of 1400 tokens, and 25 of 140."""
    label = np.zeros(SHAPE, np.uint8)
    label[2:18, 2:18, 2:18] = 1
    return label


@pytest.mark.slow
def test_counted(dataset: Any, capsys: pytest.CaptureFixture[str]) -> None:
    file = dataset(cube())
    plans = nnUNetPlannerSCD_tiny(DATASET).plan_experiment()
    # the cube roots of 0.0893 and 0.1786 are 0.447 and 0.563
    assert ratios(plans) == {"2d": 0.57, "3d_fullres": 0.45}
    assert ratios(json.loads(file.read_text())) == ratios(plans)
    said = capsys.readouterr().out
    assert said.count("Plans were saved to") == said.count("3D fullres U-Net configuration") == 1
    assert "3d_fullres: keep_ratio 0.45, 0.45, 0.45\n" in said
    assert "in 400 crops from 2 cases: median 8.9 %, in 99 % of the crops at most 8.9 %" in said
    assert "stay after each stage: 45.0, 20.2, 9.1 %, mean 24.8 %; room for all of them in 100.0 %" in said
    assert said.count("GMACs") == 2
    # a configuration of the user's stays, and is not counted
    mine = {"configurations": {"mine": {"patch_size": [8, 8, 8]}}}
    file.with_name("nnUNetPlansSCD_tiny_fast.json").write_text(json.dumps(mine))
    fast = nnUNetPlannerSCD_tiny_fast(DATASET).plan_experiment()
    assert fast["configurations"].pop("mine") == {"patch_size": [8, 8, 8]}
    # 0.0893 to the powers 0.1805 and 0.2732
    assert ratios(fast)["3d_fullres"] == [0.65, 0.52, 0.52, 0.52]


@pytest.mark.slow
def test_no_foreground_anywhere(dataset: Any, capsys: pytest.CaptureFixture[str]) -> None:
    dataset(np.zeros(SHAPE, np.uint8))
    assert ratios(nnUNetPlannerSCD_tiny(DATASET).plan_experiment()) == {"2d": 0.25, "3d_fullres": 0.25}
    assert "3d_fullres: keep_ratio 0.25, 0.25, 0.25 (the preset's)" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(("planner", "expected"), [(AsPreset, 0.25), (Third, 0.3)])
def test_set(dataset: Any, planner: type[CountingPlanner], expected: float, capsys: pytest.CaptureFixture[str]) -> None:
    dataset(np.full(SHAPE, 5, np.uint8))
    assert ratios(planner(DATASET).plan_experiment()) == {"2d": expected, "3d_fullres": expected}
    assert "keep_ratio 0" not in capsys.readouterr().out


def test_no_such_setting() -> None:
    with pytest.raises(ValueError, match=r"scd_keep_ratio must be None to count, 'preset', or numbers.*'counted'"):
        Wrong(DATASET)


@pytest.mark.slow
def test_a_label_map_that_cannot_be_read(dataset: Any) -> None:
    file = dataset(cube())
    raw = file.parents[2] / "nnUNet_raw" / DATASET / "labelsTr" / "case_1.nii.gz"
    raw.write_bytes(b"")
    with pytest.raises(ValueError, match=r"case_1.nii.gz could not be read to count its tokens"):
        nnUNetPlannerSCD_tiny(DATASET).plan_experiment()
    assert not file.exists()


class Restless(CountingPlanner):
    """Small ratios give a crop with much foreground, large ones a crop with few."""

    scd_size = "tiny-fast"
    few, many = (View((64,) * 3, (token,) * 3, (1.0,) * 3) for token in (4, 8))

    def __init__(self, *, settles: bool) -> None:
        self._counted: dict[str, list[float]] = {}
        self._shares = {self.few: np.array([[0.01]]), self.many: np.array([[0.1]])}
        self.settles = settles
        self.drafts = 0

    def plan_experiment(self) -> dict[str, Any]:
        self.drafts += 1
        return {}

    def _views(self, _: dict[str, Any]) -> dict[str, View]:
        large = self._counted.get("3d_fullres", [0])[0] > 0.5
        return {"3d_fullres": self.few if large and not self.settles else self.many}


def test_drafts_until_crop_and_ratios_fit() -> None:
    planner = Restless(settles=True)
    planner._settle()
    assert planner.drafts == 2
    assert planner._counted == {"3d_fullres": [0.66, 0.54, 0.54, 0.54]}


def test_the_larger_ratios_where_they_never_do() -> None:
    planner = Restless(settles=False)
    planner._settle()
    assert planner.drafts == MAX_DRAFTS
    assert planner._counted["3d_fullres"][0] > 0.5
