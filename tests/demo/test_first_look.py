from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from rich.console import Console

from scd_plugin.demo.first_look import EXAMPLE, check_model_to_try, first_look
from scd_plugin.demo.run import run_demo
from scd_plugin.demo.session import Session

BUNDLE = Path(__file__).parents[2] / "bundles" / "scd_unetr_hippocampus"


def test_bundle_of_the_repository_will_do() -> None:
    check_model_to_try(BUNDLE)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ((), r"^.*mine is no MONAI bundle: it has no configs/inference.json$"),
        (("configs/inference.json",), r"^model-to-try must be a bundle with .*; .*mine has no models/model.pt$"),
        (("configs/inference.json", "models/model.pt"), r"a folder example; .*mine has no example$"),
    ],
)
def test_what_a_bundle_lacks_is_said_before_anything_is_written(
    tmp_path: Path, files: tuple[str, ...], message: str
) -> None:
    for name in files:
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / name).touch()
    with pytest.raises(ValueError, match=message):
        run_demo(None, tmp_path / "out", device="cpu", model_to_try=tmp_path / "mine")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_page_of_the_model_to_try(tmp_path: Path) -> None:
    console = Console(record=True, width=200)
    used = Path(shutil.copytree(BUNDLE, tmp_path / "used" / BUNDLE.name))
    # of another image
    (used / "eval").mkdir(exist_ok=True)
    shutil.copy(used / EXAMPLE / "mni152_left_hippocampus.nii.gz", used / "eval" / "patient_seg.nii.gz")
    first_look(Session(tmp_path, console), used)
    copy = tmp_path / BUNDLE.name
    page = (copy / "report.html").read_text(encoding="utf-8")
    assert "2 cases, the worst first" in " ".join(page.split())
    for side, centre in (("left", -26), ("right", 26)):
        name = f"mni152_{side}_hippocampus"
        image = nib.load(BUNDLE / EXAMPLE / f"{name}.nii.gz")
        labels = nib.load(copy / "eval" / f"{name}_seg.nii.gz")
        np.testing.assert_array_equal(labels.affine, image.affine)
        found = np.asarray(labels.dataobj)
        places = [nib.affines.apply_affine(labels.affine, np.argwhere(found == label).mean(0)) for label in (1, 2)]
        # mm of the MNI space, right, front and up: the head of the hippocampus lies in front of its body
        assert all(abs(place[0] - centre) < 6 for place in places)
        assert places[0][1] > -22 > places[1][1]
        # 1.6 to 1.9 ml when this was written
        assert all(1000 < (found == label).sum() < 2600 for label in (1, 2))
        stages = np.asarray(nib.load(copy / "eval" / "keep_maps" / f"{name}.nii.gz").dataobj)
        # what is marked stayed longer than the rest
        assert stages[found > 0].mean() > stages[found == 0].mean() + 1
    printed = console.export_text()
    assert "$ python -m monai.bundle run --config_file" in printed
    assert "$ scd report" in printed
