"""Folders that a user names, judged by the names of what is in them: light, so that a command can do so first.

Whoever reads such a folder calls the same function; what is inside of its files is found out there.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

__all__ = [
    "CHECKPOINT",
    "EXPORTS",
    "PARTIAL",
    "bundle_config",
    "check_apart",
    "check_auditable",
    "check_exportable",
    "check_labelled",
    "check_output",
    "check_output_file",
    "check_room",
    "choose_folds",
    "empty_folder",
    "export_path",
    "find_folds",
    "is_bundle",
    "read_json",
    "trained_folds",
]

CHECKPOINT = "checkpoint_final.pth"
PARTIAL = ".scd_partial"
"""Beginning of the name of what is being written; left behind by a process that was killed, it is in nobody's way."""
EXPORTS = MappingProxyType(
    {
        "torchscript": "model.ts",
        "torchscript-trace": "model.ts",
        "onnx": "model.onnx",
        "onnx-legacy": "model.onnx",
        "torch-export": "model.pt2",
        "tensorrt": "model_trt.ts",
    }
)
"""Formats that a bundle's network can be exported in, and the usual names of their files in its `models`."""
_BUNDLE_CONFIGS = ("inference.json", "inference.yaml", "inference.yml")


def find_folds(model_folder: str | Path, wanted: Sequence[str] = (), checkpoint: str = CHECKPOINT) -> list[str]:
    """Find the folds to predict with in a model folder of nnU-Net, TRAINER__PLANS__CONFIGURATION of its results.

    Raises:
        ValueError: if it is no model folder, or as `choose_folds`.
    """
    root = Path(model_folder).expanduser()
    for name in ("plans.json", "dataset.json"):
        if not (root / name).is_file():
            msg = (
                f"{root} is no model folder of nnU-Net: it has no {name}. Name the folder "
                "TRAINER__PLANS__CONFIGURATION of nnUNet_results, which holds plans.json, dataset.json and fold_0"
            )
            raise ValueError(msg)
    try:
        return choose_folds(trained_folds(root, checkpoint), wanted)
    except ValueError as error:
        msg = f"{root}: {error} ({checkpoint})"
        raise ValueError(msg) from None


def trained_folds(model_folder: Path, checkpoint: str) -> list[str]:
    """List the folds of a model folder, by names without `fold_`, that hold a file of such a name or pattern."""
    names = {path.parent.name.removeprefix("fold_") for path in model_folder.glob(f"fold_*/{checkpoint}")}
    # nnU-Net has no others; a copy such as fold_0_old is none
    return sorted(name for name in names if name == "all" or (name.isascii() and name.isdigit()))


def choose_folds(found: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Choose, by names without `fold_`, the folds to predict with.

    Without any that are wanted these are all that have a checkpoint, as in nnU-Net: the numbered ones, else `all`.

    Raises:
        ValueError: if a fold that is asked for was not found, or none was found.
    """
    if missing := [fold for fold in wanted if fold not in found]:
        msg = f"fold {', '.join(missing)} has no checkpoint; folds with one: {', '.join(sorted(found)) or 'none'}"
        raise ValueError(msg)
    numbered = sorted((fold for fold in found if fold.isdigit()), key=int)
    chosen = list(dict.fromkeys(wanted)) or numbered or list(found)
    if not chosen:
        msg = "no fold has a checkpoint"
        raise ValueError(msg)
    return chosen


def is_bundle(folder: Path) -> bool:
    """Whether a folder is laid out as a MONAI bundle, whose configs are code; those beside a model's plans are not."""
    return (folder / "configs").is_dir() and not (folder / "plans.json").is_file()


def bundle_config(bundle: Path) -> Path:
    """Find the config by which a bundle predicts; ValueError if there is none."""
    for name in _BUNDLE_CONFIGS:
        if (file := bundle / "configs" / name).is_file():
            return file
    msg = f"{bundle} is no MONAI bundle: it has no configs/inference.json"
    raise ValueError(msg)


def check_exportable(bundle: Path) -> tuple[Path, Path, Path]:
    """Return the files of a bundle that an export reads: config, metadata, weights; ValueError if one is missing."""
    config, metadata, weights = files = (
        bundle / "configs" / "inference.json",
        bundle / "configs" / "metadata.json",
        bundle / "models" / "model.pt",
    )
    for file in files:
        if not file.is_file():
            remedy = "train the bundle first, or copy weights there" if file is weights else "is it a bundle?"
            msg = f"{bundle} has no {file.relative_to(bundle)}; {remedy}"
            raise ValueError(msg)
    return config, metadata, weights


def export_path(bundle: Path, name: str, output: str | Path | None = None) -> Path:
    """Return the file that an export writes; ValueError for an unknown format, or an output with another suffix."""
    return _export_path(bundle / "models", name, output)


def model_export_path(
    model_folder: str | Path,
    name: str,
    output: str | Path | None = None,
    *,
    fold: str | None = None,
    checkpoint: str = CHECKPOINT,
) -> tuple[Path, str]:
    """Return the file that an export of an nnU-Net model writes, and the fold whose network it holds.

    Raises:
        ValueError: as `find_folds` and `export_path`, or if nothing says which of several folds is meant.
    """
    folds = find_folds(model_folder, [] if fold is None else [fold], checkpoint)
    if len(folds) > 1:
        msg = f"{model_folder} has the folds {', '.join(folds)}, and an exported file holds one network: take --fold"
        raise ValueError(msg)
    return _export_path(Path(model_folder).expanduser() / f"fold_{folds[0]}", name, output), folds[0]


def _export_path(folder: Path, name: str, output: str | Path | None) -> Path:
    if name not in EXPORTS:
        msg = f"format must be one of {', '.join(EXPORTS)}; got {name!r}"
        raise ValueError(msg)
    usual = folder / EXPORTS[name]
    path = usual if output is None else Path(output)
    if path.suffix != usual.suffix:
        msg = f"output must be a file name that ends with {usual.suffix} for this format; got {path}"
        raise ValueError(msg)
    return check_output_file(path, "output")


def check_auditable(bundle: Path, fold: str | None) -> tuple[list[Path], Path]:
    """Return configs and weights by which a bundle's labelled cases are looked at; ValueError if one is missing."""
    configs = [bundle / "configs" / name for name in ("train.json", "evaluate.json")]
    if missing := [file.name for file in configs if not file.is_file()]:
        msg = (
            f"{bundle} has no configs/{missing[0]}, by which its labelled cases would be read; if it was moved from "
            "nnU-Net, audit the model folder that it was made of"
        )
        raise ValueError(msg)
    if fold is not None and not fold.isdigit():
        msg = f"the fold of a bundle must be a number; got {fold!r}"
        raise ValueError(msg)
    weights = bundle / "models" / "model.pt"
    if not weights.is_file():
        msg = f"there are no weights in {weights}: train the bundle first, or copy a state dict there"
        raise ValueError(msg)
    return configs, weights


def check_labelled(data: Path, *inside: str) -> None:
    """Raise ValueError if the folder of labelled cases, or one that must lie in it, is not there."""
    for folder in (data, *(data / name for name in inside)):
        if not folder.is_dir():
            parts = f", with {' and '.join(inside)}" if inside else ""
            msg = f"there is no folder {folder}; name one of labelled cases{parts}"
            raise ValueError(msg)


def check_apart(data: Path, output: Path, *, name: str = "data") -> None:
    """Refuse folders of which one holds the other: the user's, an option of that name, is only read."""
    if data.is_relative_to(output) or output.is_relative_to(data):
        msg = (
            f"{name} and output must lie apart, for the output is written to and the other is only read; got {name} "
            f"{data} and output {output}, name another with --output (make demo: OUT=)"
        )
        raise ValueError(msg)


def check_output(path: str | Path) -> Path:
    """Return a path to write to, as a file or a folder, with its home folder spelled out.

    Raises:
        ValueError: if what is there can't be written to, or can't be made because of what stands above it.
    """
    output = Path(path).expanduser()
    there = next(one for one in (output.absolute(), *output.absolute().parents) if os.path.lexists(one))
    if there != output.absolute() and not there.is_dir():
        msg = f"{output} can't be made: {there} is no folder; name another place"
        raise ValueError(msg)
    if not os.access(there, os.W_OK):
        msg = f"{output} can't be written to: {there} is read-only; name another place, or change that"
        raise ValueError(msg)
    return output


def check_output_file(path: str | Path, what: str) -> Path:
    """Return a file to write, as `check_output` does; ValueError too if a folder is there, naming `what` it is."""
    output = check_output(path)
    if output.is_dir():
        msg = f"{what} must be a file; {output} is a folder"
        raise ValueError(msg)
    return output


def check_room(path: Path, needed: float, what: str) -> None:
    """Raise ValueError if a disk has not as many bytes free as are needed for `what` is written to a path on it."""
    there = next(one for one in (path.absolute(), *path.absolute().parents) if one.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        msg = (
            f"{what} needs about {needed / 1e6:.0f} MB, and on the disk of {path} are {free / 1e6:.0f} MB free; make "
            "room, or name another place"
        )
        raise ValueError(msg)


def empty_folder(path: str | Path) -> Path:
    """Check a folder to write a model to, which may not be there yet.

    Raises:
        ValueError: if it holds something, or is a file: nothing is written over; or as `check_output`.
    """
    folder = Path(path).expanduser()
    taken = not folder.is_dir() or any(not path.name.startswith(PARTIAL) for path in folder.iterdir())
    if os.path.lexists(folder) and taken:
        msg = f"{folder} is there already and not empty; nothing is written over, so name a new folder"
        raise ValueError(msg)
    return check_output(folder)


def read_json(path: Path, kind: type[Any] | None = None) -> Any:
    """Read a JSON file; ValueError if it is missing or damaged, or not of the kind, dict or list, that it must be."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        msg = f"{path} is missing"
        raise ValueError(msg) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        msg = f"{path} is no JSON: {error}"
        raise ValueError(msg) from None
    if kind is not None and not isinstance(content, kind):
        msg = f"{path} must hold one JSON {'object' if kind is dict else 'list'}; got a {type(content).__name__}"
        raise ValueError(msg)
    return content
