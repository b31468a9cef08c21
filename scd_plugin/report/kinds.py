"""What kind of folder a report is made of, judged by names alone: light, so that the command can do so first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scd_plugin.folders import PARTIAL, check_output_file, is_bundle

__all__ = [
    "BUNDLE",
    "ENDINGS",
    "PAGE",
    "PICTURES",
    "PREDICTIONS",
    "TOLERANCE",
    "TRAINING",
    "check_paths",
    "check_predicted",
    "files_ending_in",
    "kind_of",
]

PREDICTIONS, TRAINING, BUNDLE = "predictions", "training", "bundle"
PAGE = "report.html"
PICTURES, TOLERANCE = 50, 2.0
"""Cases that are shown with pictures, and mm that surfaces may lie apart, where nobody says."""
ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".gipl.gz", ".gipl", ".tif", ".tiff", ".png", ".bmp")
"""Of images and label maps, in all readers of nnU-Net's."""
_OF_TRAINING = ("training_log_*.txt", "debug.json", "checkpoint_*.pth", "validation/summary.json")
_OF_PREDICTIONS = ("dataset.json", "*scd_predict.json", "predict_from_raw_data_args.json")
_OF_EVALUATION = ("token_audit.csv", "val_mean_dice_raw.csv", "events.out.tfevents.*")
# what else lies there and ends like an image
_PICTURES = ("progress.png", "token_audit.png", "demo.png")


def kind_of(folder: Path) -> str:
    """Tell predictions, a fold of a training and a bundle apart; a bundle may be named by its output folder.

    Raises:
        ValueError: if it is none of these.
    """
    if not folder.is_dir():
        what = "is a file" if folder.is_file() else "is missing"
        msg = f"{folder} {what}; name a folder of predictions, a fold of a training (fold_0), or a bundle"
        raise ValueError(msg)
    if any(True for name in _OF_TRAINING for _ in folder.glob(name)):
        return TRAINING
    if is_bundle(folder) or (is_bundle(folder.parent) and folder.name != "configs"):
        return BUNDLE
    if (folder / "plans.json").is_file() and (folds := sorted(path.name for path in folder.glob("fold_*"))):
        msg = f"{folder} is a model folder; name one of its folds, {', '.join(folds)}"
        raise ValueError(msg)
    known = any(True for name in (*_OF_PREDICTIONS, *_OF_EVALUATION) for _ in folder.glob(name))
    if not known and not files_ending_in(folder, ENDINGS):
        msg = (
            f"{folder} holds nothing to report: no label maps, no training log, no bundle's output; name a folder of "
            "predictions, a fold of a training (fold_0), or a bundle"
        )
        raise ValueError(msg)
    return PREDICTIONS


def check_paths(
    folder: Path, output: Path | None, images: Path | None, truth: Path | None, *, pictures: int, tolerance: float
) -> Path:
    """Return the file to write; ValueError for paths and numbers that can't be used."""
    kind_of(folder)
    for what, path in (("images", images), ("truth", truth)):
        if path is not None and not path.is_dir():
            msg = f"{what} must be a folder; there is no {path}"
            raise ValueError(msg)
    if pictures < 0:
        msg = f"pictures must be at least 0, the cases that are shown; got {pictures}"
        raise ValueError(msg)
    if not tolerance > 0:
        msg = f"tolerance must be above 0, the millimetres that surfaces may lie apart; got {tolerance}"
        raise ValueError(msg)
    return check_output_file(output or folder / PAGE, "the report")


def check_predicted(output: Path) -> None:
    """Raise ValueError if a prediction's output is a file, of which no report is made, or the page can't be written."""
    if not output.is_dir() and output.name.lower().endswith(ENDINGS):
        msg = f"report is made of a folder of label maps, and output {output} is a file; name a folder, or leave it out"
        raise ValueError(msg)
    check_output_file(output / PAGE, "the report")


def files_ending_in(folder: Path, endings: Sequence[str]) -> dict[str, Path]:
    """Return the image files of a folder, by their names without ending; hidden files and known pictures are none."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        ending = next((one for one in endings if path.name.lower().endswith(one)), None)
        plain = not path.name.startswith((".", PARTIAL)) and path.name not in _PICTURES
        if ending and plain and path.is_file() and len(path.name) > len(ending):
            found.setdefault(path.name[: -len(ending)], path)
    return found
