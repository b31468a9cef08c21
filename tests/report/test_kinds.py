"""What kind of folder it is, and paths that can't be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from scd_plugin.report.kinds import (
    BUNDLE,
    PREDICTIONS,
    TRAINING,
    check_paths,
    check_predicted,
    files_ending_in,
    kind_of,
)


@pytest.mark.parametrize(
    ("files", "named", "kind"),
    [
        (["a.nii.gz"], ".", PREDICTIONS),
        (["dataset.json", "plans.json"], ".", PREDICTIONS),
        (["x_scd_predict.json"], ".", PREDICTIONS),
        (["metrics.csv", "val_mean_dice_raw.csv"], ".", PREDICTIONS),
        (["fold_0/debug.json"], "fold_0", TRAINING),
        (["fold_all/training_log_2026_1_1.txt"], "fold_all", TRAINING),
        (["configs/inference.json"], ".", BUNDLE),
        (["configs/inference.json", "eval/a_seg.nii.gz"], "eval", BUNDLE),
    ],
)
def test_kinds(tmp_path: Path, files: list[str], named: str, kind: str) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    assert kind_of(tmp_path / named) == kind


def test_folders_of_no_kind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="absent is missing; name a folder of predictions, a fold of a training"):
        kind_of(tmp_path / "absent")
    (tmp_path / "note.txt").touch()
    with pytest.raises(ValueError, match=r"note.txt is a file; name a folder of predictions"):
        kind_of(tmp_path / "note.txt")
    with pytest.raises(ValueError, match="holds nothing to report: no label maps, no training log, no bundle's output"):
        kind_of(tmp_path)
    (tmp_path / "fold_0").mkdir()
    (tmp_path / "fold_1").mkdir()
    for name in ("plans.json", "dataset.json"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match="is a model folder; name one of its folds, fold_0, fold_1"):
        kind_of(tmp_path)


def test_paths_and_numbers_that_can_not_be_used(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").touch()
    numbers = {"pictures": 3, "tolerance": 1.0}
    assert check_paths(tmp_path, None, None, None, **numbers) == tmp_path / "report.html"  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"images must be a folder; there is no .*absent"):
        check_paths(tmp_path, None, tmp_path / "absent", None, **numbers)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"truth must be a folder; there is no .*a.nii.gz"):
        check_paths(tmp_path, None, None, tmp_path / "a.nii.gz", **numbers)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="pictures must be at least 0, the cases that are shown; got -1"):
        check_paths(tmp_path, None, None, None, pictures=-1, tolerance=1)
    with pytest.raises(
        ValueError, match="tolerance must be above 0, the millimetres that surfaces may lie apart; got 0"
    ):
        check_paths(tmp_path, None, None, None, pictures=1, tolerance=0)
    with pytest.raises(ValueError, match=r"the report must be a file; .* is a folder"):
        check_paths(tmp_path, tmp_path, None, None, **numbers)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"a.nii.gz is no folder; name another place"):
        check_paths(tmp_path, tmp_path / "a.nii.gz" / "page.html", None, None, **numbers)  # type: ignore[arg-type]


def test_a_prediction_to_a_file_has_no_report(tmp_path: Path) -> None:
    check_predicted(tmp_path / "out")
    with pytest.raises(ValueError, match=r"and output .*a.nii.gz is a file; name a folder, or leave it out"):
        check_predicted(tmp_path / "a.nii.gz")


def test_files_of_a_folder(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "b.NII.GZ", ".c.nii.gz", ".nii.gz", "d.txt", "progress.png", ".scd_partialx.nii.gz"):
        (tmp_path / name).touch()
    (tmp_path / "e.nii.gz").mkdir()
    assert list(files_ending_in(tmp_path, (".nii.gz", ".png"))) == ["a", "b"]
